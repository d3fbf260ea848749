"""Training and evaluation of policies; needs torch and LeRobot, never ROS."""
