"""Strict reading of one mapping of a contract: every refusal names the key, expected and got."""

import difflib
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rewact_ros.contract.names import check_text_name, check_topic
from rewact_ros.contract.schema import MOST_JOINTS, ContractError

# What a robot can mean: beyond these a limit is no limit, or the gate's arithmetic has no digits.
SMALLEST, LARGEST = 1e-6, 1e6
NEGLIGIBLE = 1e-9
LARGEST_INDEX = 1023


class Section:
    """A mapping that remembers which keys were read, so that the rest can be refused."""

    def __init__(self, where: str, data: object) -> None:
        if not isinstance(data, Mapping):
            hint = "; fill it in, or remove the key" if data is None else ""
            where = where or "top level"
            raise ContractError(f"{where}: expected a mapping, got {short(data)}{hint}")
        self.where, self.data = where, dict(data)
        self._known: set[str] = set()

    def path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def get(self, key: str, default: Any = ...) -> Any:
        self._known.add(key)
        if key in self.data:
            return self.data[key]
        if default is ...:
            near = difflib.get_close_matches(key, map(str, self.data), 1, 0.75)
            hint = (
                f"; did you mean it by '{near[0]}'?" if near and near[0] not in self._known else ""
            )
            raise ContractError(f"{self.path(key)}: missing{hint}")
        return default

    def finish(self) -> None:
        for key in self.data:
            if key not in self._known:
                near = difflib.get_close_matches(str(key), sorted(self._known), 1)
                hint = (
                    f"; the nearest known key is '{near[0]}'"
                    if near
                    else f"; known: {sorted(self._known)}"
                )
                raise ContractError(f"{self.path(str(key))}: unknown key{hint}")

    def section(self, key: str, default: Any = ...) -> "Section":
        return Section(self.path(key), self.get(key, default))

    def parts(self, key: str) -> list["Section"]:
        """One mapping, or a list of mappings (arms and hands of a humanoid)."""
        value = self.get(key)
        if not isinstance(value, list):
            return [Section(self.path(key), value)]
        if not value:
            raise ContractError(f"{self.path(key)}: expected at least one part, got an empty list")
        return [Section(f"{self.path(key)}[{i}]", part) for i, part in enumerate(value)]

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise ContractError(f"{self.path(key)}: expected text, got {short(value)}")
        return value

    def topic(self, key: str = "topic") -> str:
        """A ROS name that every node takes for the same topic."""
        return check_topic(self.path(key), self.text(key))

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = ...) -> str:
        value = self.get(key, default)
        if value not in allowed:
            raise ContractError(
                f"{self.path(key)}: expected one of {', '.join(allowed)}; got {short(value)}"
                f"{nearest(str(value), allowed)}"
            )
        return str(value)

    def positive(
        self, key: str, default: Any = ..., low: float = SMALLEST, high: float = LARGEST
    ) -> float:
        return positive(self.path(key), self.get(key, default), low, high)

    def flag(self, key: str, default: Any = ...) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise ContractError(f"{self.path(key)}: expected true or false, got {short(value)}")
        return value

    def index(self, key: str) -> int:
        return index(self.path(key), self.get(key))

    def joints(self) -> tuple[str, ...]:
        value = self.get("joints")
        where = self.path("joints")
        if not isinstance(value, list) or not value:
            raise ContractError(f"{where}: expected a list of joint names, got {short(value)}")
        for i, joint in enumerate(value):
            if not isinstance(joint, str):
                raise ContractError(
                    f"{where}[{i}]: expected a joint name, got {short(joint)}; quote a name"
                )
            if check_text_name(f"{where}[{i}]", joint) == "default":
                raise ContractError(f"{where}[{i}]: 'default' stands for all other joints; rename")
        if len(value) > MOST_JOINTS:
            raise ContractError(f"{where}: expected at most {MOST_JOINTS}, got {len(value)}")
        repeated = sorted(name for name, count in Counter(value).items() if count > 1)
        if repeated:
            raise ContractError(f"{where}: expected each joint once, got {repeated[0]} twice")
        return tuple(value)

    def per_joint(
        self, key: str, joints: tuple[str, ...], default: Any = ...
    ) -> list[tuple[str, Any]]:
        """One value for all joints, or a mapping by joint with a `default` for the rest."""
        value = self.get(key, default)
        if not isinstance(value, Mapping):
            return [(self.path(key), value) for _ in joints]
        for name in value:
            if name != "default" and name not in joints:
                raise ContractError(
                    f"{self.path(key)}.{name}: no such joint{nearest(str(name), joints)}"
                )
        for joint in joints:
            if joint not in value and "default" not in value:
                raise ContractError(f"{self.path(key)}.{joint}: missing; give it, or a 'default'")
        return [(f"{self.path(key)}.{j}", value.get(j, value.get("default"))) for j in joints]


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
        raise ContractError(
            f"{where}: expected 0, or {NEGLIGIBLE:g} to {LARGEST:g} with either sign, got {got:g}"
        )
    return got


def positive(where: str, value: object, low: float = SMALLEST, high: float = LARGEST) -> float:
    """A finite number above 0, within bounds beyond which none makes sense."""
    got = _finite(where, value)
    if got <= 0:
        raise ContractError(f"{where}: expected a number above 0, got {got:g}")
    if not low <= got <= high:
        raise ContractError(f"{where}: expected {low:g} to {high:g}, got {got:g}")
    return got


def _finite(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        hint = "; numbers are written like 10, 0.5 or 6e1, without quotes"
        raise ContractError(
            f"{where}: expected a finite number, got {short(value)}"
            f"{hint if isinstance(value, str) else ''}"
        )
    return float(value)


def index(where: str, value: object) -> int:
    """An index of `Joy.buttons` or `Joy.axes`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_INDEX:
        raise ContractError(
            f"{where}: expected an index of 0 to {LARGEST_INDEX}, got {short(value)}"
        )
    return value


def interval(where: str, value: object) -> tuple[float, float]:
    """`[low, high]` with low below high."""
    if not isinstance(value, list) or len(value) != 2:
        raise ContractError(f"{where}: expected [low, high], got {short(value)}")
    low, high = (number(where, v) for v in value)
    if low >= high:
        raise ContractError(f"{where}: expected low < high, got [{low}, {high}]")
    if high - low < SMALLEST:
        raise ContractError(f"{where}: expected at least {SMALLEST:g} between low and high")
    return low, high
