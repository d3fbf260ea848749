"""What a command source asked beyond the robot's limits, and what follows from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import OnViolation

FloatArray = NDArray[np.float64]
# In the gate's order, for a joint is named by the first limit that it broke (position gate).
KINDS = ("non_finite", "position", "velocity", "acceleration")
# From the mildest: of several violations the last in this order counts.
VERDICTS = ("clip", "hold", "fault")
# Rounding must not count as a violation: relative to the allowed value, absolute below 1.
_SLACK = 1e-6


@dataclass(frozen=True)
class Violation:
    """A value that a source asked of joint `joint` (action order), and the nearest allowed one.

    Both are in the unit of the limit broken: joint unit, unit/s or unit/s². For `non_finite`,
    nothing is allowed (NaN); a joint that the command lacks was asked to be NaN.
    """

    kind: str
    joint: int
    asked: float
    allowed: float

    def text(self, names: Sequence[str]) -> str:
        """One line for people, such as `waist: velocity 3.100 asked, 2.500 allowed`."""
        name = names[self.joint]
        if self.kind == "non_finite":
            return f"{name}: {self.asked} asked, expected a finite number"
        return f"{name}: {self.kind} {self.asked:.3f} asked, {self.allowed:.3f} allowed"


def worst(violations: Iterable[Violation], on_violation: OnViolation) -> str:
    """Severest of what the contract says about these violations: `clip`, `hold` or `fault`.

    `clip`, also for no violation at all, means that the gate's command may go out.
    """
    verdicts = [getattr(on_violation, violation.kind) for violation in violations]
    return max(verdicts, key=VERDICTS.index, default="clip")


def non_finite(values: FloatArray, joints: int) -> tuple[Violation, ...]:
    """Joints whose value is not a finite number, or missing in an array of another width."""
    if values.shape != (joints,):
        missing = min(values.size, joints - 1)
        return (Violation("non_finite", missing, float("nan"), float("nan")),)
    finite = np.isfinite(values)
    if finite.all():
        return ()
    return tuple(
        Violation("non_finite", int(j), float(values[j]), float("nan"))
        for j in np.flatnonzero(~finite)
    )


def beyond(*checks: tuple[str, FloatArray, FloatArray]) -> tuple[Violation, ...]:
    """Violations among (kind, asked (A,), allowed (A,)), each joint named by its first only.

    A command that leaves one limit often breaks the next ones too; the first is the cause.
    """
    found: dict[int, Violation] = {}
    for kind, asked, allowed in checks:
        excess = np.abs(asked - allowed)
        if not (excess > _SLACK).any():
            continue
        for j in np.flatnonzero(excess > _SLACK * np.maximum(np.abs(allowed), 1.0)):
            found.setdefault(int(j), Violation(kind, int(j), float(asked[j]), float(allowed[j])))
    return tuple(found.values())


class ViolationCounts(dict[str, int]):
    """Per kind, the number of commands in which it occurred."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(KINDS, 0))

    def add(self, violations: Iterable[Violation]) -> None:
        """Count the violations of one command."""
        for kind in {violation.kind for violation in violations}:
            self[kind] += 1
