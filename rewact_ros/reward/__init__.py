"""Rewards: progress labels of demonstrations (NumPy only)."""
