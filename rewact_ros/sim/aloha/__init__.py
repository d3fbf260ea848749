"""The two tasks of the ACT paper in simulation: `aloha/transfer-cube` and `aloha/insertion`."""
