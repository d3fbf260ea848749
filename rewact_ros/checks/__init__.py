"""What is wrong of a robot, judged from facts alone: nothing here touches ROS, files or clocks.

`table.py` has a row for each check. `hil/arm` and the nodes that observe use the same words.
"""
