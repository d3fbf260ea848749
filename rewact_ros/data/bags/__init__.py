"""Recordings (rosbag2): written, made whole after a kill, read back as the live node saw them."""
