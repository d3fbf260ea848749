"""Judging an episode from the policy's own reward, without ROS. NumPy only."""
