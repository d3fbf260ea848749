"""A joint that cannot be where it says: whole turns off, or in another unit than the contract's."""

import math

TURN_RAD = 2 * math.pi
# Beyond so many turns, degrees are likelier than an encoder that counted on.
MOST_TURNS = 1.5
TICKS, MIDDLE_TICK = 4096, 2048  # of a Dynamixel's or Feetech's turn


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


def unit_hint(unit: str, value: float, low: float, high: float) -> str:
    """The mend where `value`, read in another unit, lies in [low, high]; else an empty string."""
    others: tuple[tuple[str, float], ...] = ()
    if unit == "rad" and abs(value) > MOST_TURNS * TURN_RAD:
        others = (
            ("degrees", math.radians(value)),
            ("servo ticks", (value - MIDDLE_TICK) * TURN_RAD / TICKS),
        )
    elif unit == "m":
        others = (("millimetres", value / 1000), ("percent", low + (high - low) * value / 100))
    elif unit == "normalized":
        others = (("percent", value / 100),)
    for name, inside in others:
        if low <= inside <= high:
            return (
                f"; as {name} it is {inside:.3f} {unit}, which fits: let the driver report {unit}, "
                "or correct 'unit' in the contract"
            )
    return ""
