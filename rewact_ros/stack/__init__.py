"""The processes of a robot: which there are, started, watched, stopped, and spoken to."""
