"""Training of policies; needs torch and LeRobot, never ROS."""
