"""Where a checkpoint's reward comes from: the episodes that taught it, and whose actions it keeps.

`rewact calibrate` keeps away from those episodes: a reward knows them by heart. An episode is told
by its content, so that a copy or an export anew is the same one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rewact_ros.strict_yaml import YamlError, load_json

from .demonstrations import Demonstrations

ORIGIN = "reward_origin.json"
_DIGITS = 16


def identities(data: Demonstrations, episodes: Iterable[int]) -> dict[str, str]:
    """Identity of each episode -> its dataset's name and its number there.

    The identity is of states and actions, bit for bit. Pictures and labels do not count: they may
    be compressed or written anew.
    """
    found = {}
    for index in episodes:
        rows = data.rows([index])
        digest = hashlib.sha256(data.state[rows].tobytes() + data.action[rows].tobytes())
        found[digest.hexdigest()[:_DIGITS]] = f"{data.source.root.name}: episode {index}"
    return found


def taught_episodes(checkpoint: Path) -> dict[str, str]:
    """The episodes that taught a checkpoint's reward, by identity; empty where it does not say.

    Raises:
        YamlError: the file is damaged.
    """
    taught: dict[str, str] = _read(checkpoint)["taught"]
    return taught


def acts_as(checkpoint: Path) -> list[str]:
    """Versions whose actions a checkpoint repeats bit for bit, since only its reward was trained.

    Raises:
        YamlError: the file is damaged.
    """
    versions: list[str] = _read(checkpoint)["acts_as"]
    return versions


def origin_text(taught: Mapping[str, str], versions: Iterable[str] = ()) -> str:
    """Content of the file."""
    return json.dumps({"acts_as": list(versions), "taught": dict(taught)}, indent=1) + "\n"


def _read(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / ORIGIN
    if not file.is_file():
        return {"acts_as": [], "taught": {}}
    found = load_json(file)
    if (
        isinstance(found, dict)
        and isinstance(found.get("acts_as"), list)
        and isinstance(found.get("taught"), dict)
        and all(isinstance(text, str) for text in (*found["acts_as"], *found["taught"].values()))
    ):
        return found
    raise YamlError(f"{file}: expected acts_as and taught, texts; copy the checkpoint anew")
