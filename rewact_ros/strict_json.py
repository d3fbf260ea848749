"""JSON of files that others may have written: small, whole, and with one meaning."""

import json
import math
from typing import Any

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32


class JsonError(ValueError):
    """A text that is no JSON object, or that two readers might understand differently."""


def parse_json(content: bytes, what: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        content: the whole file, UTF-8.
        what: names the file in errors.
        max_bytes: largest size.

    Raises:
        JsonError: too large or too deep, not UTF-8, not JSON, no object; a key that stands twice, a
            number that is not finite.
    """
    if len(content) > max_bytes:
        raise JsonError(f"{what}: expected at most {max_bytes} bytes of JSON, got {len(content)}")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except RecursionError:
        raise JsonError(f"{what}: nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise JsonError(f"{what}: not valid JSON ({error}); copy the file again") from error
    if not isinstance(value, dict):
        raise JsonError(f"{what}: expected a JSON object, got {type(value).__name__}")
    if _depth(value) > MAX_DEPTH:
        raise JsonError(f"{what}: nested deeper than {MAX_DEPTH}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:80]!r} stands twice")
        found[key] = value
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level and deepest <= MAX_DEPTH:
        deepest += 1
        inner = [v.values() if isinstance(v, dict) else v for v in level if _is_nest(v)]
        level = [child for children in inner for child in children]
    return deepest


def _is_nest(value: Any) -> bool:
    return isinstance(value, dict | list)
