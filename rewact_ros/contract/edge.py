"""Conversions at the edge: a driver's numbers ↔ ours, which are rad, m or normalized.

Nothing inside the package knows another unit: state vectors, actions, limits, the reset pose and
the contract's signature are in ours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rewact_ros.contract.sections import JointNames, Section
from rewact_ros.contract.state_values import SENSOR_UNITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rewact_ros.contract.schema import ActionPart, StatePart

    FloatArray = NDArray[np.float64]

# Word of the contract → (our unit, our units in one of the driver's; None: only the user knows).
DRIVER_UNITS: dict[str, tuple[str, float | None]] = {
    "deg": ("rad", math.pi / 180),
    "mm": ("m", 1e-3),
    "percent": ("normalized", 0.01),
    "ticks": ("rad", None),
}
# These are exact; with a scale beside them nobody would know which of the two counts.
_EXACT = ("deg", "mm")
# Limits beyond these, in ours, are the driver's degrees or millimetres: no joint has them.
_MOST = {"deg": (50.0, "rad"), "mm": (20.0, "m")}


def convert(section: Section) -> None:
    """Turn a part's names and numbers into ours, and what leads to them.

    Sets `unit` to our units and `scale` and `offset` to a number per joint, or to () where the
    driver's numbers are ours already; likewise `drivers`, its names of the joints.
    """
    if isinstance(names := section.get("joints"), JointNames):
        section.values |= {"joints": tuple(names), "drivers": names.drivers}
    words, joints = section.get("unit"), section.get("joints")
    scales, offsets = section.get("scale"), section.get("offset")
    if None in (words, joints, scales, offsets):
        return
    units, scale, offset = [], [], []
    for joint, word, given, shift in zip(joints, words, scales, offsets, strict=True):
        unit, factor = DRIVER_UNITS.get(word, (word, 1.0))
        _check(section, joint, word, given, shift)
        units.append(unit)
        scale.append(given if given is not None else factor or 1.0)
        offset.append(shift or 0.0)
    section.values["unit"] = section.per_joint["unit"] = tuple(units)
    ours = all(s == 1.0 and o == 0.0 for s, o in zip(scale, offset, strict=True))
    section.values["scale"] = () if ours else tuple(scale)
    section.values["offset"] = () if ours else tuple(offset)


def _check(
    section: Section, joint: str, word: str, given: float | None, shift: float | None
) -> None:
    problems, where = section.problems, f"{section.path('scale')}.{joint}"
    unit, factor = DRIVER_UNITS.get(word, (word, 1.0))
    if word in _EXACT and (given is not None or shift is not None):
        key = "scale" if given is not None else "offset"
        problems.add(
            f"{section.path(key)}.{joint}",
            f"none beside unit: {word}, which is {factor:.6g} {unit} by itself",
            f"{given if given is not None else shift:g}",
            f"write unit: {unit} with the scale and the offset that lead to {unit}",
        )
    elif factor is None and given is None:
        problems.add(
            where,
            fault="missing",
            mend=f"give the {unit} in one of its {word}, such as 0.00153398 for 4096 a turn",
        )
    if word in SENSOR_UNITS and section.get("field") == "position":
        expected = "rad, m or normalized, or what the driver has for them, for the position of "
        problems.add(section.path("unit"), expected + joint, word)
    moving = "velocity" in (section.get("field"), section.get("command"))
    if moving and shift:
        fault = f"a velocity has no zero to shift, got {shift:g}"
        problems.add(f"{section.path('offset')}.{joint}", fault=fault, mend="leave it out")
    limits = dict(zip(section.get("joints"), section.per_joint.get("position", ()), strict=False))
    most, ours = _MOST.get(word, (math.inf, ""))
    if (limit := limits.get(joint)) and max(map(abs, limit)) > most:
        problems.add(
            f"{section.path('position')}.{joint}",
            f"limits in {ours}, at most ±{most:g}",
            f"[{limit[0]:g}, {limit[1]:g}]",
            f"only the driver has {word}: limits and poses are in {ours}",
        )


def to_ours(part: StatePart | ActionPart, raw: FloatArray) -> FloatArray:
    """A driver's numbers (n,) in our units."""
    import numpy as np

    return raw * np.array(part.scale) + np.array(part.offset) if part.scale else raw


def to_driver(part: StatePart | ActionPart, values: FloatArray) -> FloatArray:
    """Ours (n,) as the driver has them."""
    import numpy as np

    return (values - np.array(part.offset)) / np.array(part.scale) if part.scale else values
