"""A joint that is whole turns off: an encoder that wraps, or a driver with another zero."""

import math

TURN_RAD = 2 * math.pi


def turns_hint(unit: str, value: float, low: float, high: float) -> str:
    """The mend where `value`, but for whole turns, lies in [low, high]; else an empty string."""
    off = (value - (low + high) / 2) / TURN_RAD
    turns = round(off) if unit == "rad" and math.isfinite(off) else 0
    inside = value - turns * TURN_RAD
    if turns == 0 or not low <= inside <= high:
        return ""
    count = "2π" if abs(turns) == 1 else f"{abs(turns)} · 2π"
    return (
        f"; {count} {'less' if turns > 0 else 'more'} is {inside:.3f}, which fits: the encoder "
        "counts another turn, so home the joint or correct its driver's zero"
    )
