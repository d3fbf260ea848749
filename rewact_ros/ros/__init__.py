"""The only glue between ROS and the rest: messages, parameters, QoS, clocks."""
