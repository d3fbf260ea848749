"""LeRobotDatasets of anybody: opened after a look, read in time order, changed in one step."""
