"""The operator's console: a page in a browser, what it shows of one robot, and what it may ask for.

It never publishes a robot command: buttons are the services and actions that terminals call, and a
browser's jog is a teleop source like any other, which hil arbitrates.
"""
