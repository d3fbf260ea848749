"""Labels of a LeRobotDataset: where they come from, and writing them in one step."""
