"""Datasets: scripted demonstrations written as a LeRobotDataset."""
