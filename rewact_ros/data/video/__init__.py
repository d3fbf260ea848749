"""Videos for people: cameras with the reward drawn in; and what encoders do to a process."""
