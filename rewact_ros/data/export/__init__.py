"""Recordings → one LeRobotDataset v3."""
