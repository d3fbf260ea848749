"""Simulated robots and their tasks. No ROS."""
