"""Names of a data set against those of a driver: `shoulder_pan.pos` is `shoulder_pan`."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rewact_ros.contract.state_values import NAMED_VALUES

# Last part of a name in LeRobot's data sets → the field of a JointState that it is.
FIELDS = {
    "pos": "position",
    "position": "position",
    "vel": "velocity",
    "velocity": "velocity",
    "eff": "effort",
    "effort": "effort",
    "torque": "effort",
}


class Group(NamedTuple):
    """Neighbouring names of one message: `NAME.x` to `NAME.wz`; `type` is that of the message."""

    type: str
    name: str
    first: int
    size: int


def stem(name: str) -> tuple[str, str]:
    """A name without what says which number of the joint it is, and that field."""
    base, dot, last = name.rpartition(".")
    return (base, FIELDS[last]) if dot and last in FIELDS else (name, "position")


def groups(names: tuple[str, ...]) -> list[Group]:
    """Poses, wrenches and twists among the names of a vector."""
    found, i = [], 0
    while i < len(names):
        for type_, named in NAMED_VALUES.items():
            prefix = names[i].rpartition(".")[0]
            count = len(named.values)
            if prefix and names[i : i + count] == named.names(prefix):
                found.append(Group(type_, prefix, i, count))
                i += count
                break
        else:
            i += 1
    return found


def single(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names that are no part of a pose, a wrench or a twist."""
    grouped = {i for g in groups(names) for i in range(g.first, g.first + g.size)}
    return tuple(name for i, name in enumerate(names) if i not in grouped)


def pair(
    names: Iterable[str], drivers: Iterable[str], given: Mapping[str, str]
) -> tuple[dict[str, str], set[str]]:
    """Each name's joint in the driver, as far as there is one, and the names that are guesses.

    What was given counts first, then the same name, then the same without `.pos` and the like.
    What is left is a guess, where words tell one name from all others: `waist.pos` is
    `arm/waist_joint`.
    """
    known, left = set(drivers), list(dict.fromkeys(names))
    found = {name: given[name] for name in left if given.get(name) in known}
    for same in (lambda name: name, lambda name: stem(name)[0]):
        found |= {name: same(name) for name in left if name not in found and same(name) in known}
    free = known - set(found.values())
    guesses: dict[str, str] = {}
    for name in (name for name in left if name not in found):
        near = [joint for joint in free if _alike(name, joint)]
        if len(near) == 1:
            guesses[name] = near[0]
    alone = {n: j for n, j in guesses.items() if list(guesses.values()).count(j) == 1}
    return {**found, **alone}, set(alone)


def words(name: str) -> frozenset[str]:
    """Words of a name that say something."""
    parts = re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    return frozenset(parts) - {"joint", "pos", "position", "", "state", "commands", "command"}


def _alike(name: str, joint: str) -> bool:
    one, other = words(stem(name)[0]), words(joint)
    return bool(one and other) and (one <= other or other <= one)
