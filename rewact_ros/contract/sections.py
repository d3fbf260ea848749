"""Strict reading of one mapping of a contract by the table of its keys.

A table (`tables.py`) says of each key what its value may be, so that the same rows check a file and
make the JSON Schema for editors. Reading goes on past what is wrong: all of it is told at once.
"""

import difflib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewact_ros.contract.names import check_text_name, check_topic
from rewact_ros.contract.problems import Problems, refusal
from rewact_ros.contract.schema import MOST_JOINTS

# What a robot can mean: beyond these a limit is no limit, or the gate's arithmetic has no digits.
SMALLEST, LARGEST = 1e-6, 1e6
NEGLIGIBLE = 1e-9
LARGEST_INDEX = 1023
REQUIRED: Any = ...


@dataclass(frozen=True)
class Kind:
    """What the value of a key may be.

    Attributes:
        read: (where, value) → the value as the contract has it; raises ContractError.
        schema: the same as JSON Schema, as far as that can say it.
        per_joint: one value for all joints, or a mapping by joint with a `default` for the rest.
        nested: the value is a section of its own, which somebody else reads.
        partial: a mapping by joint may leave joints out, which then have the key's default.
    """

    read: Callable[[str, Any], Any]
    schema: Mapping[str, Any] = field(compare=False)
    per_joint: bool = False
    nested: bool = False
    partial: bool = False


@dataclass(frozen=True)
class Key:
    """One row of a table; `default` is the value where the key is absent."""

    name: str
    kind: Kind
    meaning: str
    default: Any = REQUIRED


class Section:
    """The values of one mapping, as far as they are what the table says.

    Attributes:
        values: name of the key → value as read; what is wrong or missing is not there.
        per_joint: name of a key per joint → values in their order; None: that joint's is wrong.
    """

    def __init__(
        self, where: str, data: object, keys: Sequence[Key], problems: Problems, prefix: str = ""
    ) -> None:
        """Read all keys but those per joint and those nested.

        Args:
            where: path of the section; empty at the top level.
            data: what the file has there.
            keys: its table.
            problems: takes what is wrong.
            prefix: keys that begin so are someone else's.
        """
        self.where, self.problems, self.data = where, problems, {}
        self.values: dict[str, Any] = {}
        self.per_joint: dict[str, tuple[Any, ...]] = {}
        self._keys, self._known_before = {key.name: key for key in keys}, len(problems)
        if not isinstance(data, Mapping):
            mend = "fill it in, or remove the key" if data is None else ""
            problems.add(where or "top level", "a mapping", short(data), mend)
            self.is_mapping = False
            return
        self.is_mapping, self.data = True, dict(data)
        meant = {self._check_missing(key) for key in keys if key.name not in self.data}
        for name in self.data:
            others = bool(prefix) and str(name).startswith(prefix)
            if name not in self._keys and name not in meant and not others:
                self._refuse_unknown(str(name))
        for key in keys:
            self._read(key)

    def _read(self, key: Key) -> None:
        if key.kind.per_joint:
            return
        if key.name not in self.data:
            if key.default is not REQUIRED:
                self.values[key.name] = key.default
        elif not key.kind.nested:
            with self.problems.noted():
                self.values[key.name] = key.kind.read(self.path(key.name), self.data[key.name])

    def __contains__(self, name: str) -> bool:
        return name in self.data

    @property
    def whole(self) -> bool:
        """Whether nothing was wrong in it, nor in the sections inside it that were read since."""
        return len(self.problems) == self._known_before

    def path(self, key: str) -> str:
        """Full path of a key, such as `action[0].joints`."""
        return f"{self.where}.{key}" if self.where else key

    def get(self, name: str) -> Any:
        """The value as read; None where it is wrong or missing."""
        return self.values.get(name)

    def read_per_joint(self, joints: tuple[str, ...] | None) -> None:
        """Read what is per joint into tuples in the order of `joints`; None: they are not known."""
        for key in self._keys.values():
            if not key.kind.per_joint:
                continue
            if key.name in self.data:
                self._read_per_joint(key, joints)
            elif key.default is not REQUIRED and joints is not None:
                self.values[key.name] = (key.default,) * len(joints)

    def _read_per_joint(self, key: Key, joints: tuple[str, ...] | None) -> None:
        where, value = self.path(key.name), self.data[key.name]
        before = len(self.problems)
        given = value if isinstance(value, Mapping) else {"default": value}
        read = {}
        for name, each in given.items():
            inner = f"{where}.{name}" if given is value else where
            if joints is not None and name != "default" and name not in joints:
                self.problems.add(inner, fault=f"no such joint{nearest(str(name), joints)}")
                continue
            with self.problems.noted():
                read[name] = key.kind.read(inner, each)
        if key.kind.partial:
            read.setdefault("default", key.default)
        for joint in joints or ():
            if joint not in given and "default" not in read and "default" not in given:
                self.problems.add(
                    f"{where}.{joint}", fault="missing", mend="give it, or a 'default'"
                )
        if joints is not None:
            made = tuple(read.get(j, None if j in given else read.get("default")) for j in joints)
            self.per_joint[key.name] = made
            if len(self.problems) == before:
                self.values[key.name] = made

    def _check_missing(self, key: Key) -> str:
        """Refuse a required key that is absent; returns the key that may have been meant by it."""
        if key.default is not REQUIRED:
            return ""
        others = [str(name) for name in self.data if name not in self._keys]
        near = difflib.get_close_matches(key.name, others, 1, 0.75)
        mend = f"did you mean it by '{near[0]}'?" if near else ""
        at = self.path(near[0]) if near else ""
        self.problems.add(self.path(key.name), fault="missing", mend=mend, at=at)
        return near[0] if near else ""

    def _refuse_unknown(self, name: str) -> None:
        near = difflib.get_close_matches(name, sorted(self._keys), 1)
        mend = f"the nearest known key is '{near[0]}'" if near else f"known: {sorted(self._keys)}"
        self.problems.add(self.path(name), fault="unknown key", mend=mend)


def parts(
    where: str,
    data: Mapping[str, Any],
    tables: Mapping[str, Sequence[Key]],
    usual: str,
    problems: Problems,
) -> list[Section]:
    """One mapping, or a list of mappings (arms and hands of a humanoid), by their types' tables.

    Args:
        where: key of `data` that has them.
        tables: `type` → keys.
        usual: the type of a part that has none, or one like no other.
    """
    if where not in data:
        return []

    def read(place: str, part: object) -> Section:
        type_ = str(part.get("type")) if isinstance(part, Mapping) else ""
        # Where a type is misspelt, the keys of the nearest tell least that is beside the point.
        near = difflib.get_close_matches(type_, tables, 1)
        return Section(place, part, tables[near[0] if near else usual], problems)

    value = data[where]
    if not isinstance(value, list):
        return [read(where, value)]
    if not value:
        problems.add(where, "at least one part", "an empty list")
    return [read(f"{where}[{i}]", part) for i, part in enumerate(value)]


# Values --------------------------------------------------------------------------------------


def short(value: object) -> str:
    """A value with its type, cut to a line's part."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def nearest(name: str, known: tuple[str, ...]) -> str:
    """`; did you mean '…'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def number(where: str, value: object) -> float:
    """A finite number of a size that a robot can mean."""
    got = _finite(where, value)
    if abs(got) > LARGEST or 0 < abs(got) < NEGLIGIBLE:
        raise refusal(where, f"0, or {NEGLIGIBLE:g} to {LARGEST:g} with either sign", f"{got:g}")
    return got


def _other_than_zero(where: str, value: object) -> float:
    got = number(where, value)
    if got == 0:
        raise refusal(where, "a number other than 0 (negative turns it round)", "0")
    return got


def positive(where: str, value: object, low: float = SMALLEST, high: float = LARGEST) -> float:
    """A finite number above 0, within bounds beyond which none makes sense."""
    got = _finite(where, value)
    if got <= 0:
        raise refusal(where, "a number above 0", f"{got:g}")
    if not low <= got <= high:
        raise refusal(where, f"{low:g} to {high:g}", f"{got:g}")
    return got


def _finite(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        mend = "numbers are written like 10, 0.5 or 6e1, without quotes"
        raise refusal(
            where, "a finite number", short(value), mend if isinstance(value, str) else ""
        )
    return float(value)


def index(where: str, value: object) -> int:
    """An index of `Joy.buttons` or `Joy.axes`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_INDEX:
        raise refusal(where, f"an index of 0 to {LARGEST_INDEX}", short(value))
    return value


def interval(where: str, value: object) -> tuple[float, float]:
    """`[low, high]` with low below high."""
    if not isinstance(value, list) or len(value) != 2:
        raise refusal(where, "[low, high]", short(value))
    low, high = (number(where, v) for v in value)
    if low >= high:
        raise refusal(where, "low < high", f"[{low}, {high}]")
    if high - low < SMALLEST:
        raise refusal(where, f"at least {SMALLEST:g} between low and high", f"[{low}, {high}]")
    return low, high


def text(where: str, value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise refusal(where, "text", short(value))
    return value


def flag(where: str, value: object) -> bool:
    """True or false, not a word for it."""
    if not isinstance(value, bool):
        raise refusal(where, "true or false", short(value))
    return value


def joints(where: str, value: object) -> tuple[str, ...]:
    """A list of names, each once."""
    if not isinstance(value, list) or not value:
        raise refusal(where, "a list of joint names", short(value))
    for i, joint in enumerate(value):
        if not isinstance(joint, str):
            raise refusal(f"{where}[{i}]", "a joint name", short(joint), "quote a name")
        if check_text_name(f"{where}[{i}]", joint) == "default":
            raise refusal(
                f"{where}[{i}]", fault="'default' stands for all other joints", mend="rename"
            )
    if len(value) > MOST_JOINTS:
        raise refusal(where, f"at most {MOST_JOINTS}", str(len(value)))
    repeated = sorted(name for name, count in Counter(value).items() if count > 1)
    if repeated:
        raise refusal(where, "each joint once", f"{repeated[0]} twice")
    return tuple(value)


class JointNames(tuple[str, ...]):
    """Names of joints in the data set; `drivers` are those of the messages, where they differ."""

    drivers: tuple[str, ...] = ()


def joints_by_name(where: str, value: object) -> JointNames:
    """A list of names, or a mapping {name in the data set: name in the messages}."""
    if not isinstance(value, Mapping):
        return JointNames(joints(where, value))
    names = JointNames(joints(where, list(value)))
    drivers = joints(where, list(value.values()))
    if drivers != names:
        names.drivers = drivers
    return names


# Kinds ---------------------------------------------------------------------------------------


def choice(allowed: tuple[str, ...]) -> Kind:
    """One of some words."""

    def read(where: str, value: object) -> str:
        if value not in allowed:
            mend = nearest(str(value), allowed).removeprefix("; ")
            raise refusal(where, f"one of {', '.join(allowed)}", short(value), mend)
        return str(value)

    return Kind(read, {"enum": list(allowed)})


def above_zero(low: float = SMALLEST, high: float = LARGEST, per_joint: bool = False) -> Kind:
    """A number above 0."""
    return Kind(
        lambda where, value: positive(where, value, low, high),
        {"type": "number", "minimum": low, "maximum": high},
        per_joint,
    )


_NUMBER = {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}
NUMBER_PER_JOINT = Kind(number, _NUMBER, per_joint=True)
INTERVAL_PER_JOINT = Kind(
    interval, {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}, per_joint=True
)
TEXT = Kind(text, {"type": "string", "minLength": 1})
FLAG = Kind(flag, {"type": "boolean"})
INDEX = Kind(index, {"type": "integer", "minimum": 0, "maximum": LARGEST_INDEX})
TOPIC = Kind(
    lambda where, value: check_topic(where, text(where, value)),
    {"type": "string", "pattern": "^/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$"},
)
JOINTS = Kind(
    joints,
    {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "maxItems": MOST_JOINTS,
        "uniqueItems": True,
    },
)

_NAMES = {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1}
JOINTS_BY_NAME = Kind(joints_by_name, {"anyOf": [JOINTS.schema, _NAMES]})
SCALE = Kind(_other_than_zero, _NUMBER, per_joint=True, partial=True)
OFFSET = Kind(number, _NUMBER, per_joint=True, partial=True)


def nested(schema: Mapping[str, Any]) -> Kind:
    """A section of its own."""
    return Kind(lambda where, value: value, schema, nested=True)


def table_schema(keys: Sequence[Key]) -> dict[str, Any]:
    """JSON Schema of one mapping."""
    properties = {}
    for key in keys:
        schema: dict[str, Any] = dict(key.kind.schema)
        if key.kind.per_joint:
            schema = {"anyOf": [schema, {"type": "object", "additionalProperties": schema}]}
        properties[key.name] = {"description": key.meaning, **schema}
        if isinstance(key.default, str | int | float):
            properties[key.name]["default"] = key.default
    return {
        "type": "object",
        "properties": properties,
        "required": [key.name for key in keys if key.default is REQUIRED],
        "additionalProperties": False,
    }
