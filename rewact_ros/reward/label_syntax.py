"""Strict reading of label files: plain YAML or JSON, no key twice, no unknown key, real numbers."""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .keypoints import LabelError


def load(path: Path) -> object:
    """Read YAML, or JSON where the name ends in `.json`.

    Raises:
        LabelError: not readable, not valid, or a key given twice in one mapping.
    """
    try:
        text = path.read_text()
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_unique)
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise LabelError(f"{path}: {reason}; give a label file in YAML or JSON") from None
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise LabelError(f"{path}: not valid {kind}: {' '.join(str(error).split())}") from None
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, whose parser would otherwise keep the last of two equal keys."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise LabelError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is given twice")
    return made


def _refuse_repeated_keys(root: yaml.Node | None) -> None:
    """As `_unique`, for YAML."""
    waiting, visited = [root], set()  # an alias may lead to one node many times, or to itself
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
            continue
        keys = set()
        for key, value in node.value:
            if str(key.value) in keys:
                line = key.start_mark.line + 1
                raise LabelError(f"line {line}: the key {key.value!r} is given twice")
            keys.add(str(key.value))
            waiting.append(value)


def is_index(key: object) -> bool:
    """Tell whether a key is a whole number, as JSON (text) or YAML gives it."""
    if isinstance(key, bool):
        return False
    return isinstance(key, int) or (
        isinstance(key, str) and re.fullmatch(r"-?\d+", key) is not None
    )


def numbers(where: str, data: object) -> dict[str, float]:
    """Return a mapping of names to finite numbers."""
    if not isinstance(data, Mapping):
        raise LabelError(f"{where}: expected {{NAME: NUMBER, …}}, got {short(data)}")
    return {str(name): number(f"{where}.{name}", value) for name, value in data.items()}


def number(where: str, value: object) -> float:
    """Return a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise LabelError(f"{where}: expected a finite number, got {short(value)}")
    return float(value)


def require_known(prefix: str, data: Mapping[Any, Any], known: Iterable[str]) -> None:
    """Refuse a key outside `known`, with the nearest known one."""
    names = list(known)
    for key in data:
        if key not in names:
            raise LabelError(f"{prefix}{key}: unknown key{nearest(str(key), names)}")


def nearest(name: str, known: list[str]) -> str:
    """End of a message about an unknown name."""
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"


def short(value: object) -> str:
    """A value as it stands in a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
