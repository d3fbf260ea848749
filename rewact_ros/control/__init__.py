"""The command path without ROS: modes, chunk timing, safety gate, watchdogs. NumPy only."""
