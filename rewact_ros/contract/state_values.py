"""What a state part observes where its message type, not a list of joints, says so.

A new message type is one row here, and one in STATES of `rewact_ros/ros/states.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class NamedValues:
    """Values of one message type; a part's names are NAME.suffix.

    Attributes:
        field: what they are, as the contract's signature says it.
        values: (suffix, unit) in the order of the state vector.
    """

    field: str
    values: tuple[tuple[str, str], ...]

    def names(self, name: str) -> tuple[str, ...]:
        """Names of the values of the part NAME."""
        return tuple(f"{name}.{suffix}" for suffix, _ in self.values)

    @property
    def units(self) -> tuple[str, ...]:
        """Their units."""
        return tuple(unit for _, unit in self.values)


POSE = "geometry_msgs/msg/PoseStamped"
WRENCH = "geometry_msgs/msg/WrenchStamped"
TWIST = "geometry_msgs/msg/TwistStamped"
# The names of a pose are LeRobot's (robot_kinematic_processor.py): w… is the rotation vector.
NAMED_VALUES = {
    POSE: NamedValues(
        "pose",
        (("x", "m"), ("y", "m"), ("z", "m"), ("wx", "rad"), ("wy", "rad"), ("wz", "rad")),
    ),
    WRENCH: NamedValues(
        "wrench",
        (("fx", "N"), ("fy", "N"), ("fz", "N"), ("tx", "Nm"), ("ty", "Nm"), ("tz", "Nm")),
    ),
    TWIST: NamedValues(
        "twist",
        (
            *(("vx", "m/s"), ("vy", "m/s"), ("vz", "m/s")),
            *(("wx", "rad/s"), ("wy", "rad/s"), ("wz", "rad/s")),
        ),
    ),
}
# Numbers that say nothing of themselves, in messages without a header.
ARRAY = "std_msgs/msg/Float64MultiArray"
SCALARS = ("std_msgs/msg/Float32", "std_msgs/msg/Float64")
# What they may be measured in, beside what a joint may.
SENSOR_UNITS = ("m/s", "rad/s", "N", "Nm")
