"""Strict reading of label files: plain YAML or JSON, no key twice, no unknown key, real numbers."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml

from .keypoints import LabelError

MAX_BYTES = 4_194_304  # some ten thousand episodes


def load(path: Path) -> object:
    """Read YAML, or JSON where the name ends in `.json`.

    Raises:
        LabelError: not readable, not valid, or a key given twice in one mapping.
    """
    try:
        if path.suffix == ".json":
            return strict_yaml.load_json(path)
        return strict_yaml.load(path, MAX_BYTES)
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}; give a label file in YAML or JSON") from None
    except strict_yaml.YamlError as error:
        raise LabelError(str(error)) from None


def is_index(key: str) -> bool:
    """Tell whether a key is a whole number."""
    return re.fullmatch(r"-?[0-9]{1,18}", key) is not None


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
