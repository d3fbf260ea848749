"""The success classifier: its frames, training and calibration."""
