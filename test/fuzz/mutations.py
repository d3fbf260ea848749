"""Hypothesis strategies that spoil what is valid: bytes, parsed documents, messages."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from rclpy.serialization import serialize_message
from rosidl_parser.definition import AbstractNestedType, AbstractString, BasicType, NamespacedType

from rewact_ros.ros.door import _class

_NUMBERS = [0, -1, 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64, 10**400, 1e308, 1e-310]
_TEXTS = [
    *("", " ", "~", "../../etc/passwd", "/", "__class__", "\ud800", "\u202e", "é\u0301", "٣"),
    *("\x1b[2J", "a\nb", "x" * 5000, "1e999", "9" * 400, "nan", "NaN", "0x10", "{0}%s", "rewact"),
]
_VALUES: list[Any] = [
    *_NUMBERS, *_TEXTS, math.nan, math.inf, -math.inf, None, True, False, [], {}, [[]], [None],
    {"": 0}, [0] * 3000, [[0, 1], [1, 0]], {"default": 1}, {str(n): n for n in range(300)},
]  # fmt: skip
# Little-endian and big-endian lengths that promise what is not there.
_LENGTHS = [
    n.to_bytes(size, order)
    for size in (2, 4, 8)
    for order in ("little", "big")
    for n in (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), min(1 << 40, 2 ** (8 * size) - 2))
]
MOST_EDITS = 4
NEAR_BYTES = 400  # heads and tails say how the rest is read


def spoilt_bytes(seeds: Sequence[bytes]) -> SearchStrategy[bytes]:
    """Seeds with bits flipped, bytes lost, doubled or overwritten, and joined halves of two."""
    return _spoilt_bytes(tuple(seeds)) | st.sampled_from(tuple(seeds)) | st.binary(max_size=60)


@st.composite
def _spoilt_bytes(draw: Any, seeds: tuple[bytes, ...]) -> bytes:
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, MOST_EDITS))):
        at = draw(_place(len(data)))
        n = draw(st.integers(1, 64))
        how = draw(st.sampled_from(_EDITS))
        if how == "flip":
            data = data[:at] + bytes(b ^ (1 << n % 8) for b in data[at : at + 1]) + data[at + 1 :]
        elif how == "write":
            new = draw(st.sampled_from(_LENGTHS) | st.binary(min_size=1, max_size=8))
            data = data[:at] + new + data[at + len(new) :]
        elif how == "drop":
            data = data[:at] + data[at + n :]
        elif how == "double":
            data = data[: at + n] + data[at:]
        elif how == "cut":
            data = data[:at]
        else:
            other = draw(st.sampled_from(seeds))
            data = data[:at] + other[draw(_place(len(other))) :]
    return data


_EDITS = ("flip", "flip", "write", "write", "drop", "double", "cut", "splice")


def _place(size: int) -> SearchStrategy[int]:
    """Where in so many bytes: anywhere, but more often near an end."""
    last, near = max(size - 1, 0), min(NEAR_BYTES, max(size - 1, 0))
    return (
        st.integers(0, near) | st.integers(0, last) | st.integers(0, near).map(lambda n: last - n)
    )


def spoilt_json(documents: Sequence[Any]) -> SearchStrategy[bytes]:
    """Documents of which some values or keys are others, lost or moved, as JSON; or its bytes."""
    return _dumped(documents, json.dumps)


def spoilt_yaml(documents: Sequence[Any], texts: Sequence[bytes] = ()) -> SearchStrategy[bytes]:
    """As `spoilt_json`, as YAML; `texts` are seeds as they are written by hand."""
    return _dumped(documents, _yaml, texts)


def _yaml(document: Any) -> str:
    return yaml.dump(document, Dumper=yaml.SafeDumper, allow_unicode=True, sort_keys=False)


def _dumped(
    documents: Sequence[Any], dump: Callable[[Any], str], texts: Sequence[bytes] = ()
) -> SearchStrategy[bytes]:
    def encode(document: Any) -> bytes:
        return dump(document).encode("utf-8", "surrogatepass")

    trees = _spoilt_tree(tuple(documents)).map(encode)
    deep = st.integers(20, 20_000).map(lambda n: b"[" * n)
    return trees | trees | spoilt_bytes([*texts, *map(encode, documents)]) | deep


@st.composite
def _spoilt_tree(draw: Any, documents: tuple[Any, ...]) -> Any:
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            return draw(st.sampled_from(_VALUES))
        parent, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(("value", "value", "value", "drop", "key", "wrap", "swap")))
        if how == "value":
            parent[key] = copy.deepcopy(draw(st.sampled_from(_VALUES)))
        elif how == "drop":
            del parent[key]
        elif how == "wrap":
            for _ in range(draw(st.sampled_from((1, 2, 40)))):
                parent[key] = [parent[key]]
        elif how == "swap":
            other, place = draw(st.sampled_from(places))
            parent[key] = copy.deepcopy(other[place])
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(_TEXTS))] = parent.pop(key)
        else:
            parent.insert(key, copy.deepcopy(parent[key]))
    return document


def _places(document: Any) -> Any:
    """(container, key) of every value in a document."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(entries) if isinstance(document, dict | list) else ():
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


# Messages -------------------------------------------------------------------------------------


def spoilt_messages(messages: Sequence[Any]) -> SearchStrategy[bytes]:
    """Messages of which some fields hold anything that their types can, as CDR."""
    return _spoilt_message(tuple(messages)) | st.sampled_from(
        [bytes(serialize_message(message)) for message in messages]
    )


@st.composite
def _spoilt_message(draw: Any, messages: tuple[Any, ...]) -> bytes:
    message = copy.deepcopy(draw(st.sampled_from(messages)))
    for _ in range(draw(st.integers(1, 3))):
        inside, field, slot = draw(st.sampled_from(list(_fields(message))))
        setattr(inside, field, draw(_field(slot, getattr(inside, field))))
    return bytes(serialize_message(message))


def _fields(message: Any) -> Any:
    """(message, field, type) of every field, and of those of the messages in it."""
    for name, slot in zip(message.get_fields_and_field_types(), message.SLOT_TYPES, strict=True):
        if isinstance(slot, NamespacedType):
            yield from _fields(getattr(message, name))
            continue
        yield message, name, slot
        if isinstance(getattr(slot, "value_type", None), NamespacedType):
            for inner in getattr(message, name)[:3]:
                yield from _fields(inner)


def _field(slot: Any, now: Any) -> SearchStrategy[Any]:
    if not isinstance(slot, AbstractNestedType):
        return _single(slot)
    inner, items = slot.value_type, list(now)
    if isinstance(inner, BasicType) and inner.typename in ("uint8", "octet"):
        return spoilt_bytes([bytes(items)])
    new = _single(inner)
    few = st.lists(new, max_size=5)
    cut = st.integers(0, len(items)).map(lambda n: items[:n])
    longer = st.integers(1, 600).map(lambda n: (items * n or [])[:2000])
    return few | cut | longer | new.map(lambda value: [value, *items[1:]])


def _single(slot: Any) -> SearchStrategy[Any]:
    if isinstance(slot, AbstractString):
        texts = [text for text in _TEXTS if text.isprintable() or "\n" in text]
        return st.sampled_from(texts) | st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
        )
    if isinstance(slot, NamespacedType):
        return st.builds(_class(slot))
    kind = slot.typename
    if kind == "boolean":
        return st.booleans()
    if kind in ("double", "float"):
        return st.floats(width=64 if kind == "double" else 32)
    bits = int(kind.removeprefix("u").removeprefix("int"))
    low, high = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high) | st.sampled_from((low, high))
