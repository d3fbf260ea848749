"""Rewards: progress labels, metrics, baselines (no ROS)."""
