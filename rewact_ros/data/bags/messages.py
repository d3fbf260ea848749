"""Recorded bytes → messages, by the definition in the recording or, without one, by ours.

A definition is foreign text of which the library makes code: only plain `.msg` texts with plain
names and bounded arrays reach it, and only those of the types that are asked for.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from rewact_ros.contract.tables import CAMERA_TYPES
from rewact_ros.data.bags.storage import StoredTopic
from rewact_ros.share import share_dir

# Of all but images: objects in Python take far more than their bytes.
MAX_MESSAGE_BYTES = 8 << 20
MAX_DEFINITION_BYTES = 256 << 10
# A fixed array becomes as many lines of code, unless it is of numbers.
MAX_FIXED_ITEMS, MAX_FIXED_NUMBERS = 1000, 1 << 20
# What is read of our own messages in recordings.
_READ = {
    "rewact_ros/msg/Reward": (
        "header", "value", "q10", "q50", "q90", "entropy", "policy_version"
    ),
    "rewact_ros/msg/ControlStatus": ("header", "mode"),
    "rewact_ros/msg/EpisodeEvent": (
        "header", "event", "episode_id", "task", "outcome", "termination_reason"
    ),
}  # fmt: skip
_TYPE = re.compile(r"[A-Za-z]\w*(/[A-Za-z]\w*){1,2}", re.ASCII)
_FIELD = re.compile(r"[A-Za-z]\w*", re.ASCII)


class MessageError(ValueError):
    """A message, or the definition of its type, cannot be read."""


def typestore() -> Typestore:
    """ROS 2 Jazzy's message types and this package's own, for bags that store no definitions."""
    store = get_typestore(Stores.ROS2_JAZZY)
    own: dict[str, Any] = {}
    for file in sorted((share_dir() / "msg").glob("*.msg")):
        own |= get_types_from_msg(file.read_text(), f"rewact_ros/msg/{file.stem}")
    store.register(own)
    return store


_known = cache(typestore)


def decoder_of(topic: StoredTopic) -> Callable[[bytes], Any]:
    """Function: CDR bytes of a topic's messages → an object with the type's fields.

    The function raises MessageError for bytes that are no such message. Bytes after the last field
    are padding, however many: rclpy leaves eight behind a JointState without velocity and effort.

    Raises:
        MessageError: the type is neither known nor defined in the recording, or its definition is
            another than ours, or none at all.
    """
    if topic.serialization != "cdr":
        raise MessageError(
            f"its messages are '{topic.serialization:.20}', expected cdr; convert the recording"
        )
    try:
        store = _store_of(topic)
        definition = store.get_msgdef(topic.type)
    except MessageError:
        raise
    except Exception as error:  # whatever the library makes of foreign text
        raise MessageError(f"the recorded definition of {topic.type:.80} is damaged") from error
    limit = MAX_MESSAGE_BYTES if topic.type not in CAMERA_TYPES else 1 << 62

    def decode(raw: bytes) -> Any:
        if len(raw) > limit:
            raise MessageError(f"{len(raw)} bytes are no {topic.type}")
        if raw[:2] not in (b"\0\0", b"\0\x01"):
            raise MessageError(f"its bytes begin with {raw[:2]!r}, which is no plain CDR")
        read = definition.deserialize_cdr_le if raw[1] else definition.deserialize_cdr_be
        try:
            return read(raw[4:], 0, definition.cls, store)[0]
        except Exception as error:  # generated code over damaged bytes
            raise MessageError(f"does not decode as {topic.type} ({error})") from error

    return decode


def _store_of(topic: StoredTopic) -> Typestore:
    """The types that a topic's messages are read by."""
    known = _known()
    if topic.encoding != "ros2msg" or not topic.definition:
        if topic.type not in known.fielddefs:
            raise MessageError(
                f"type {topic.type:.80} is not known here and not defined in the recording; record "
                "it anew with a recorder that stores definitions, or convert it"
            )
        return known
    return _recorded_store(topic.type, topic.definition)


@cache
def _recorded_store(type_: str, text: str) -> Typestore:
    if len(text) > MAX_DEFINITION_BYTES:
        raise MessageError(f"the recorded definition of {type_:.80} has {len(text)} bytes")
    known = _known()
    recorded = get_types_from_msg(text, type_)
    for name, (_, fields) in recorded.items():
        _check_definition(name, fields)
        ours = known.fielddefs.get(name)
        if ours is not None:
            _compare(name, dict(fields), dict(ours[1]))
    if all(
        name in known.fielddefs and known.fielddefs[name][1] == fields
        for name, (_, fields) in recorded.items()
    ):
        return known
    store = get_typestore(Stores.EMPTY)
    store.register(recorded)
    return store


def _check_definition(name: str, fields: Any) -> None:
    if not _TYPE.fullmatch(name):
        raise MessageError(f"the recording defines a type {name!r:.80}")
    for field, (kind, what) in fields:
        if not _FIELD.fullmatch(field):
            raise MessageError(f"{name}: the recording defines a field {field!r:.80}")
        if kind == Nodetype.ARRAY:
            inner, n = what
            is_number = inner[0] == Nodetype.BASE and inner[1][0] not in ("string", "wstring")
            if not 0 < n <= (MAX_FIXED_NUMBERS if is_number else MAX_FIXED_ITEMS):
                raise MessageError(f"{name}.{field}: the recording defines {n} items of it")


def _compare(name: str, recorded: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse a type that lacks what is read here; more fields than ours do not matter.

    Our own types have gained fields, without which older recordings are as good as ever.
    """
    is_own = name.startswith("rewact_ros/")
    for field, kind in ours.items():
        if field not in recorded and is_own and field not in _READ.get(name, ()):
            continue
        if recorded.get(field) != kind:
            how = "no field" if field not in recorded else "another kind of field"
            raise MessageError(
                f"the recorded {name} has {how} '{field}'; read it with the version of "
                f"{name.split('/')[0]} that recorded it"
            )
