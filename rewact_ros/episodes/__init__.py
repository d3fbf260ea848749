"""Episodes in a simulated task, in process: driven, helped, judged, kept as datasets. No ROS."""
