"""Right messages of every type that our nodes listen to, and malformed forms of them.

Forms are made by looking at a type's fields, so that a new field or type has its forms by itself.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from rosidl_parser.definition import AbstractNestedType, AbstractString, BasicType, NamespacedType
from sensor_msgs.msg import Image, JointState, Joy
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rewact_ros.contract import Contract
from rewact_ros.msg import ActionChunk, EpisodeEvent, Reward, RewardFeatures
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.door import _class
from rewact_ros.ros.images import image_message
from rewact_ros.ros.interfaces import VIEWS
from rewact_ros.ros.views import view_message
from rewact_ros.supervision.camera_check import view_of

HUGE_TEXT = "x" * 1_000_000
HOSTILE_TEXT = "\x1b[2J\x1b]0;owned\x07\r\n[red]\u202eerror: 100%s {0}"
STAMPS = {
    "zero": (0, 0),
    "1970": (1, 5),
    "2038": (2**31 - 1, 0),
    "before 1970": (-5, 0),
    "nanosec of 4 s": (None, 4_000_000_000),
}
HUGE = 100_000


def right(kind: type, topic: str, contract: Contract, now_ns: int) -> Any:
    """A message of a type as a sound robot and a sound stack would send it now."""
    stamp = to_stamp(now_ns)
    joints = contract.state[0].joints
    pose = list(contract.reset.pose) if contract.reset else [0.0] * len(contract.action_names)
    msg = kind()
    if kind is JointState:
        source = next((s for s in contract.teleop if s.topic == topic.lstrip("/")), None)
        names = list(source.joints) if source is not None else list(joints)
        msg = JointState(name=names, position=pose)
    elif kind is Image and topic.lstrip("/") == VIEWS:
        key, shown = contract.cameras[0].key, np.full(contract.cameras[0].shape, 90, np.uint8)
        msg = view_message(key, view_of(shown), stamp)
    elif kind is Image:
        camera = next(c for c in contract.cameras if c.topic == topic.lstrip("/"))
        noise = np.random.default_rng(now_ns).integers(0, 256, camera.shape, dtype=np.uint8)
        msg = image_message(noise, stamp, "camera")
    elif kind is ActionChunk:
        points = [JointTrajectoryPoint(positions=pose) for _ in range(20)]
        for k, point in enumerate(points):
            point.time_from_start.nanosec = round(k * contract.dt_s * 1e9) % 10**9
            point.time_from_start.sec = round(k * contract.dt_s * 1e9) // 10**9
        msg.trajectory = JointTrajectory(joint_names=list(contract.action_names), points=points)
    elif kind is Float64MultiArray:
        msg.data = pose
    elif kind is Joy:
        msg = Joy(axes=[0.0] * 8, buttons=[0] * 12)
    elif kind is Reward:
        msg = Reward(value=0.2, q10=0.1, q50=0.2, q90=0.3, entropy=0.5)
    elif kind is RewardFeatures:
        msg.features = [0.1] * 8
    elif kind is EpisodeEvent:
        msg = EpisodeEvent(episode_id="e1", event=EpisodeEvent.RESUMED)
    if hasattr(msg, "header"):
        msg.header.stamp = stamp
    return msg


def forms(make: Callable[[], Any]) -> Iterator[tuple[str, bytes]]:
    """(what is wrong with it, serialized message) of every malformed form of a right one.

    Args:
        make: a right one, of now: only what is wrong with a form may be wrong with it.
    """
    message = make()
    sound = serialize_message(message)
    yield "nothing", b""
    yield "half of it", sound[: len(sound) // 2]
    yield "more than it", sound + b"\xff" * 1000
    yield "default", serialize_message(type(message)())
    for name, spoilt in _spoilt(make):
        yield name, serialize_message(spoilt)


def _spoilt(make: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
    message = make()
    for path, slot in _leaves(message):
        for what, value in _values(slot, _at(message, path)):
            spoilt = make()
            setattr(_at(spoilt, path[:-1]), path[-1], value)
            yield f"{'.'.join(map(str, path))}: {what}", spoilt


def _leaves(message: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple, Any]]:
    """Path and type of every field; of a list of messages the list itself, and the first's."""
    inside = _at(message, path)
    for name, slot in zip(inside.get_fields_and_field_types(), inside.SLOT_TYPES, strict=True):
        if not isinstance(slot, NamespacedType) or slot.name == "Time":
            yield (*path, name), slot
        if isinstance(slot, NamespacedType) and slot.name != "Time":
            yield from _leaves(message, (*path, name))
        elif isinstance(getattr(slot, "value_type", None), NamespacedType) and len(
            getattr(inside, name)
        ):
            yield from _leaves(message, (*path, name, 0))


def _at(message: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        message = message[step] if isinstance(step, int) else getattr(message, step)
    return message


def _values(slot: Any, now: Any) -> Iterator[tuple[str, Any]]:
    """What a field may hold that it should not."""
    if isinstance(slot, AbstractNestedType):
        yield from _arrays(slot.value_type, list(now))
    elif isinstance(slot, AbstractString):
        yield "empty", ""
        yield "1 MB", HUGE_TEXT
        yield "escape sequences", HOSTILE_TEXT
        yield "no path", "../../etc/passwd"
    elif isinstance(slot, NamespacedType):  # a stamp
        for name, (sec, nanosec) in STAMPS.items():
            yield name, type(now)(sec=now.sec if sec is None else sec, nanosec=nanosec)
    elif isinstance(slot, BasicType):
        yield from _numbers(slot.typename, now)


def _numbers(kind: str, now: Any) -> Iterator[tuple[str, Any]]:
    if kind == "boolean":
        yield "the other", not now
    elif kind in ("double", "float"):
        yield "NaN", math.nan
        yield "infinite", math.inf
        yield "enormous", 3e38
        yield "negative", -1.0
    else:
        bits = int(kind.removeprefix("u").removeprefix("int") or 8) if "int" in kind else 8
        low, high = (
            (0, 2**bits - 1) if kind[0] != "i" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        )
        for value in {low, high, 0, 7, 99}:
            yield str(value), value


def _arrays(kind: Any, now: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    yield "empty", []
    if isinstance(kind, NamespacedType):
        one = _class(kind)()
        yield "a bare one", [one]
        yield "one more", [*now, one]
        yield "very many", [one] * (HUGE // 10)
        return
    if isinstance(kind, AbstractString):
        yield "doubled", [*now, *now]
        yield "a huge one", [HUGE_TEXT, *now[1:]]
        yield "escape sequences", [HOSTILE_TEXT, *now[1:]]
        yield "very many", ["x"] * HUGE
        yield "others", ["nobody"] * max(len(now), 1)
        return
    whole = kind.typename not in ("double", "float")
    spoilt = [0, 1, 127] if whole else [math.nan, math.inf, 3e38]
    yield "one less", now[:-1]
    yield "one more", [*now, type(now[0])(0) if now else (0 if whole else 0.0)]
    yield "very many", [0 if whole else 0.0] * HUGE
    for value in spoilt:
        yield f"first {value}", [value, *now[1:]]
