"""What a driver counts in, as far as its numbers tell: radians never reach 90."""

import math
from collections.abc import Mapping

from rewact_ros.contract.found import JointModel, JointStream

_RAD, _TICK = math.pi / 180, 2 * math.pi / 4096
# A joint may stand this far outside the limits of its model, in rad or m.
_SLACK = {"rad": 0.2, "m": 0.02}
_MOST_RAD, _MOST_DEG = 2 * math.pi + 0.2, 360.5


def guess_units(stream: JointStream, model: Mapping[str, JointModel]) -> dict[str, tuple[str, str]]:
    """Joint → (unit of the contract, why), for joints whose numbers are no rad and no m.

    A driver counts all that turns alike, so that one joint tells of them all. Joints without end
    tell nothing: these may have turned several times.
    """
    turning = {
        joint: stream.numbers[joint]
        for joint in stream.joints
        if joint in stream.numbers and (joint not in model or model[joint].unit == "rad")
    }
    found: dict[str, tuple[str, str]] = {}
    for joint, number in turning.items():
        unit = _turning(number, model.get(joint), turning)
        if unit:
            why = f"{joint} is at {number:.6g}, and {unit} fits where rad does not"
            found = dict.fromkeys(turning, (unit, why))
            break
    for joint in stream.joints:
        about, at = model.get(joint), stream.numbers.get(joint)
        if about is None or about.unit != "m" or at is None or about.high is None:
            continue
        if not _fits(at, about) and _fits(at * 1e-3, about):
            found[joint] = "mm", f"{joint} is at {at:.6g}, and mm fits where m does not"
    return found


def _turning(number: float, about: JointModel | None, all_: Mapping[str, float]) -> str:
    if about is not None and about.low is None:
        return ""
    if _fits(number, about):
        return ""
    if _fits(number * _RAD, about) and abs(number) <= _MOST_DEG:
        return "deg"
    whole = all(each == round(each) and 0 <= each < 4096 for each in all_.values())
    return "ticks" if whole else ""


def _fits(number: float, about: JointModel | None) -> bool:
    if about is None or about.low is None or about.high is None:
        return abs(number) <= _MOST_RAD
    slack = _SLACK[about.unit]
    return about.low - slack <= number <= about.high + slack
