"""The one reader of YAML and JSON files: a value is taken as it is written, or refused with a line.

YAML 1.2's core schema, less what two readers would take for two different things: a key twice, a
number with a leading zero (8 or 10?), tags, several documents. Keys are always text. Merge keys
(`<<: *anchor`) and aliases work; an alias is a copy. Size, depth and copies are bounded, for files
come from strangers too.
"""

import json
import math
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.reader import Reader

MAX_BYTES = 131_072
MAX_JSON_BYTES = 16_777_216
MAX_DEPTH = 32
MAX_KEY = 200
# Characters and values that all aliases of a file together may copy.
MAX_COPIED = 262_144

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_NONZERO_DIGITS = re.compile(r"[^e]*[1-9]")
_LARGEST_INTEGER = 2**63 - 1  # what ROS, JSON readers and NumPy take
# Where JSON may hold half of a character, which no file and no terminal takes.
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAYBE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


class YamlError(ValueError):
    """A file is not the YAML or JSON that we read; the message says where and how to mend it.

    Attributes:
        line: of the fault; 0: not known.
        key: path of the value at fault, such as `action.joints[0]`; may be empty.
        what: the message without these.
    """

    def __init__(self, message: str, line: int = 0, key: str = "", what: str = "") -> None:
        super().__init__(message)
        self.line, self.key, self.what = line, key, what or message


@dataclass
class Notes:
    """What a caller asks for besides the value of a YAML file.

    Attributes:
        lines: path of each key → its line.
        faults: refusals past which the rest still reads; nobody who gives a list for them may use
            the value where it has any.
    """

    lines: dict[str, int] = field(default_factory=dict)
    faults: list[YamlError] = field(default_factory=list)


def load(path: str | Path, max_bytes: int = MAX_BYTES, notes: Notes | None = None) -> Any:
    """Read a YAML file into mappings (keys are text), lists, text, numbers, booleans and None.

    Raises:
        OSError: it cannot be read.
        YamlError: it is not strict YAML; the message names file, line and key. With `notes`, what
            the rest can be read past is noted there instead.
    """
    try:
        return parse(read_text(path, max_bytes), notes)
    except YamlError as error:
        raise YamlError(f"{path}: {error}", error.line, error.key, error.what) from None


def parse(text: str, notes: Notes | None = None) -> Any:
    """As `load`, of a text. Raises YamlError, which names line and key."""
    text = text.removeprefix("\ufeff")
    forbidden = Reader.NON_PRINTABLE.search(text)
    if forbidden is not None:
        line = text.count("\n", 0, forbidden.start()) + 1
        what = f"the character {forbidden[0]!r} has no place in a text file"
        raise YamlError(f"line {line}: {what}", line, "", what)
    try:
        return _Document(text, notes).value()
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        raise _syntax(error) from None
    except (ValueError, OverflowError) as error:  # such as "\UFFFFFFFF", which is no character
        raise YamlError(f"not valid YAML: {error}") from None


def load_json(path: str | Path) -> Any:
    """As `load`, of a JSON file: no key twice, nothing that is not finite, bounded depth, whole
    characters, integers within ±2^63.

    Raises:
        OSError: it cannot be read.
        YamlError: it is not strict JSON; the message names file and line or key.
    """
    try:
        return parse_json(read_text(path, MAX_JSON_BYTES))
    except YamlError as error:
        raise YamlError(f"{path}: {error}") from None


def parse_json(text: str, infinity: bool = False, nan: bool = False) -> Any:
    """As `load_json`, of a text; Python's `Infinity` and `NaN` are numbers where they may be.

    Raises YamlError.
    """
    taken = {"Infinity": infinity, "-Infinity": infinity, "NaN": nan}
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=lambda name: float(name) if taken[name] else _no_constant(name),
            parse_float=_finite,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise YamlError(f"line {error.lineno}: not valid JSON: {error.msg}") from None
    except YamlError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise YamlError(f"not valid JSON: {error}") from None
    except RecursionError:
        raise YamlError("not valid JSON: too many levels inside one another") from None
    if _is_deeper(value, MAX_DEPTH):
        raise YamlError("not valid JSON: too many levels inside one another")
    if _MAYBE_SURROGATE.search(text) and (half := _half_character(value)):
        raise YamlError(f"not valid JSON: {half!r} is half of a character; write the whole one")
    return value


def read_text(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    """Text of a file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: it cannot be read.
        YamlError: it is no plain file, larger than `max_bytes`, or not UTF-8.
    """
    path = Path(path)
    if "\0" in str(path):
        raise YamlError("expected a file name without a NUL character")
    if path.exists() and not path.is_dir() and not path.is_file():
        raise YamlError("expected a plain file, got a device or a pipe")
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise YamlError(f"expected at most {max_bytes} bytes; is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlError(
            f"line {line}: the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


class _Document:
    """Builds the value of one document from the parser's events, in one pass."""

    def __init__(self, text: str, notes: Notes | None = None) -> None:
        self._notes = notes
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        # Value and size of each anchor's node; None while it is still being read.
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._copied = 0

    def value(self) -> Any:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value, _ = self._node(next(self._events), "", 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if isinstance(event, yaml.DocumentStartEvent):
            raise _refusal(event, "", "expected one document, got a second one; remove it")
        return value

    def _node(self, event: Any, where: str, depth: int) -> tuple[Any, int]:
        """Value and size of the node that the event begins."""
        if isinstance(event, yaml.AliasEvent):
            return self._copy(event, where)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")[:100]
            raise _refusal(event, where, f"the tag {tag!r} is not read; remove it, or quote text")
        if depth > MAX_DEPTH:
            raise _refusal(event, where, f"more than {MAX_DEPTH} levels inside one another")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        made: tuple[Any, int]
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style is None
            if escaped := Reader.NON_PRINTABLE.search(event.value):
                raise _refusal(event, where, f"the character {escaped[0]!r} has no place in text")
            made = self._scalar(event, where) if plain else event.value, 1 + len(event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            made = self._sequence(where, depth)
        else:
            made = self._mapping(where, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = made
        return made

    def _scalar(self, event: Any, where: str) -> Any:
        try:
            return _scalar(event, where)
        except YamlError as error:
            self._note(error)
            return event.value

    def _note(self, error: YamlError) -> None:
        """Go on past a fault where the caller collects them."""
        if self._notes is None:
            raise error
        self._notes.faults.append(error)

    def _sequence(self, where: str, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        size = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            if self._notes is not None:
                self._notes.lines[f"{where}[{len(items)}]"] = event.start_mark.line + 1
            item, item_size = self._node(event, f"{where}[{len(items)}]", depth + 1)
            items.append(item)
            size += item_size
        return items, size

    def _mapping(self, where: str, depth: int) -> tuple[dict[str, Any], int]:
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        size = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _key(event, where)
            path = f"{where}.{key}" if where else key
            if key in lines:
                what = f"given twice, first in line {lines[key]}; keep one"
                self._note(_refusal(event, path, what))
            lines.setdefault(key, event.start_mark.line + 1)
            if self._notes is not None:
                self._notes.lines.setdefault(path, lines[key])
            value, value_size = self._node(next(self._events), path, depth + 1)
            size += 1 + len(key) + value_size
            if key == "<<" and event.style is None:
                merged = _merged(event, path, value)
            else:
                own[key] = value
        return merged | own, size

    def _copy(self, event: Any, where: str) -> tuple[Any, int]:
        if event.anchor not in self._anchors:
            raise _refusal(event, where, f"no anchor '&{event.anchor[:60]}' before this alias")
        found = self._anchors[event.anchor]
        if found is None:
            raise _refusal(
                event, where, f"the alias '*{event.anchor[:60]}' stands inside its own anchor"
            )
        self._copied += found[1]
        if self._copied > MAX_COPIED:
            raise _refusal(event, where, f"aliases copy more than {MAX_COPIED} characters in all")
        return deepcopy(found[0]), found[1]


def _key(event: Any, where: str) -> str:
    if (
        not isinstance(event, yaml.ScalarEvent)
        or (event.tag, event.anchor) != (None, None)
        or not 0 < len(event.value) <= MAX_KEY
        or not event.value.isprintable()
    ):
        raise _refusal(event, where, "expected a key that is a short plain text: 'name: value'")
    return event.value


def _merged(event: Any, where: str, value: object) -> dict[str, Any]:
    """What `<<` brings: of one mapping, or of several of which the first counts."""
    merged: dict[str, Any] = {}
    for part in value if isinstance(value, list) else [value]:
        if not isinstance(part, dict):
            raise _refusal(event, where, "expected a mapping, or a list of mappings, to merge")
        merged = part | merged
    return merged


def _scalar(event: Any, where: str) -> Any:
    """A plain scalar by YAML 1.2's core schema."""
    text = event.value
    if text in _WORDS:
        return _WORDS[text]
    if _LEADING_ZERO.fullmatch(text):
        plain = text.lstrip("+-0") or "0"
        raise _refusal(
            event, where, f"{text} is octal to some readers; write {plain}, or quotes if it is text"
        )
    if _INTEGER.fullmatch(text):
        # Sixteen digits decide; longer texts need not become numbers first.
        integer = int(text, 0) if len(text) <= 24 else _LARGEST_INTEGER + 1
        if abs(integer) > _LARGEST_INTEGER:
            raise _refusal(event, where, f"{text[:24]} is beyond ±2^63; quote it if it is text")
        return integer
    if _FLOAT.fullmatch(text):
        return _float(event, where, text)
    return text


def _float(event: Any, where: str, text: str) -> float:
    digits = text.lower()
    if digits.endswith(("inf", "nan")):
        return float(digits.replace(".", ""))
    number = float(digits)
    if math.isinf(number) or (number == 0 and _NONZERO_DIGITS.match(digits)):
        raise _refusal(event, where, f"{text[:24]} is beyond what a number can hold")
    return number


def _refusal(event: Any, where: str, what: str) -> YamlError:
    shown = where if len(where) <= 200 else "…" + where[-200:]
    line = event.start_mark.line + 1
    return YamlError(f"line {line}: {shown}{': ' if shown else ''}{what}", line, where, what)


def _syntax(error: yaml.MarkedYAMLError) -> YamlError:
    mark = error.problem_mark or error.context_mark
    what = error.problem or "cannot be read"
    hint = "; indent with spaces" if "'\\t'" in what else ""
    text = f"not valid YAML: {' '.join(filter(None, (error.context, what)))}{hint}"
    if mark is None:
        return YamlError(text)
    return YamlError(f"line {mark.line + 1}: {text}", mark.line + 1, "", text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise YamlError(f"{key[:MAX_KEY]}: given twice in one object; keep one")
        made[key] = value
    return made


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise YamlError(f"{text[:MAX_KEY]} is too large a number")
    return number


def _integer(text: str) -> int:
    number = int(text) if len(text) <= 24 else _LARGEST_INTEGER + 1
    if abs(number) > _LARGEST_INTEGER:
        raise YamlError(f"{text[:24]} is beyond ±2^63; quote it if it is text")
    return number


def _half_character(value: Any) -> str:
    """A lone surrogate in a text or key of a value; "": none."""
    if isinstance(value, str):
        found = _SURROGATE.search(value)
        return found[0] if found else ""
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return ""
    return next(filter(None, map(_half_character, parts)), "")


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        inner = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        if not inner:
            return False
        level = [child for children in inner for child in children]
    return True


def _no_constant(name: str) -> NoReturn:
    raise YamlError(f"{name} is no number in JSON")
