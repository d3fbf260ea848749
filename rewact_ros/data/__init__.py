"""What was recorded: bags, LeRobotDatasets, the way from one to the other, and labels."""
