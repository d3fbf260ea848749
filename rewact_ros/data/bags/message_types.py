"""Definitions and hashes of message types, from the files that every ROS package installs."""

import json
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rewact_ros.share import share_dir

_SUFFIXES = {"msg": (".msg", ".idl"), "srv": (".srv", ".idl"), "action": (".action", ".idl")}
# What stands between the definitions of a concatenated `ros2msg` schema.
SEPARATOR = "=" * 80
PRIMITIVES = re.compile(r"(bool|byte|char|float32|float64|u?int(8|16|32|64)|w?string)$")
# REP-144 and the interface definition language: what a package and a type of it may be called.
NAME = re.compile(r"[a-z][a-z0-9_]{0,127}/(msg|srv|action)/[A-Za-z][A-Za-z0-9_]{0,127}")
_FIELD = re.compile(r"^\s*([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]\w*")


@dataclass(frozen=True)
class MessageType:
    """A message type as a recording must describe it.

    Attributes:
        name: such as `sensor_msgs/msg/JointState`.
        definition: its .msg text followed by those of all types in it (`ros2msg`); empty: the
            package is not installed here, and readers must know the type themselves.
        type_hash: `RIHS01_…` (REP-2016); empty: not known.
    """

    name: str
    definition: str
    type_hash: str


@cache
def message_type(name: str) -> MessageType:
    """Look a message type up below AMENT_PREFIX_PATH and this interpreter's prefix."""
    text = _read(name, ".msg")
    if text is None:
        return MessageType(name, "", _type_hash(name))
    parts, seen, waiting = [text], {name}, _parts_of(name, text)
    while waiting:
        part = waiting.pop(0)
        if part in seen:
            continue
        seen.add(part)
        text = _read(part, ".msg")
        if text is None:  # half a definition is worse than none
            return MessageType(name, "", _type_hash(name))
        package, _, short = part.split("/")
        parts.append(f"{SEPARATOR}\nMSG: {package}/{short}\n{text}")
        waiting += _parts_of(part, text)
    return MessageType(
        name, "\n".join(part.rstrip("\n") for part in parts) + "\n", _type_hash(name)
    )


def is_installed(name: str) -> bool:
    """Whether an interface package that defines this type is installed here.

    Names come from the graph and from recordings. Only that of an installed interface may be
    imported: `subprocess/msg/X` or `antigravity/msg/X` is a Python module's name, too.
    """
    if not NAME.fullmatch(name):
        return False
    package, folder, short = name.split("/")
    # A part of a service or an action (X_Request, X_FeedbackMessage) is defined with it.
    for stem in (short, short.rpartition("_")[0]):
        for share in _shares(package):
            if stem and any((share / folder / f"{stem}{s}").is_file() for s in _SUFFIXES[folder]):
                return True
    return False


def _parts_of(name: str, text: str) -> list[str]:
    """Names of the message types that a definition contains directly."""
    package = name.split("/")[0]
    found = []
    for line in text.splitlines():
        field = _FIELD.match(line)
        if field is None or PRIMITIVES.match(field[1]):
            continue
        words = field[1].split("/")
        found.append(f"{words[0] if len(words) > 1 else package}/msg/{words[-1]}")
    return found


def _type_hash(name: str) -> str:
    text = _read(name, ".json")
    if text is None:
        return ""
    hashes = json.loads(text).get("type_hashes", [])
    return next((entry["hash_string"] for entry in hashes if entry["type_name"] == name), "")


def _read(name: str, suffix: str) -> str | None:
    words = name.split("/")
    # Actions' and services' own messages have no file; a name with dots would lead elsewhere.
    if not NAME.fullmatch(name) or words[1] != "msg":
        return None
    for share in _shares(words[0]):
        try:
            return (share / "msg" / f"{words[2]}{suffix}").read_text()
        except OSError:
            continue
    return None


def _shares(package: str) -> list[Path]:
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    shares = [Path(prefix, "share", package) for prefix in (*prefixes, sys.prefix)]
    return [*shares, share_dir()] if package == "rewact_ros" else shares
