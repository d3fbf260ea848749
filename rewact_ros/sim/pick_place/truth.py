"""Ground truth of the pick-and-place task, judged from contacts, poses and speeds alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rewact_ros.sim.task import Truth

# `done`: the cube lies at rest in the tray, released, with no part of the arm touching it.
STAGES = ("reach", "grasp", "lift", "place", "done")
# A later grasp clears the first two.
FAILURES = ("", "missed_grasp", "dropped", "off_table")

_REST_SPEED_M_S = 0.02
_DWELL_S = 0.15  # a condition must hold this long, so that a bounce decides nothing
_LIFTED_M = 0.015
_EMPTY_GRIPPER = 0.15  # a gripper holding the cube stays near 0.45


@dataclass(frozen=True)
class TaskState:
    """Physical quantities that the judgement needs.

    Attributes:
        time_s: since the reset.
        height_m: of the cube's centre above its resting height on the table.
        speed_m_s: of the cube, plus its turning speed times its half width.
        pads: finger pads in contact with the cube (0 to 2).
        arm_contact: any arm part touches the cube.
        over_tray: the cube's centre is inside the tray's walls, seen from above.
        in_tray: as over_tray, and the cube is below the rim and touches the tray.
        gripper, gripper_command: 0 (closed) to 1 (open).
    """

    time_s: float
    height_m: float
    speed_m_s: float
    pads: int
    arm_contact: bool
    over_tray: bool
    in_tray: bool
    gripper: float
    gripper_command: float


class TaskJudge:
    """Turns a stream of `TaskState` into a `Truth`; reads no script and no command history."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._since: dict[str, float] = {}
        self._lifted = False
        self._failure = ""
        self._success = False
        self._success_time_s = math.nan
        self._stage = "reach"

    def step(self, state: TaskState) -> None:
        """Take the next state (in order of time)."""
        held = state.pads == 2
        rest = state.speed_m_s < _REST_SPEED_M_S and not state.arm_contact
        if held:
            self._lifted |= state.height_m > _LIFTED_M
        self._judge_success(state, rest)
        self._judge_failure(state, held, rest)
        self._stage = self._stage_of(state, held)

    def truth(self) -> Truth:
        """Return the judgement so far."""
        return Truth(self._seed, self._stage, self._success, self._success_time_s, self._failure)

    def _judge_success(self, state: TaskState, rest: bool) -> None:
        inside = rest and state.in_tray
        since = self._holds_since("inside", inside, state.time_s)
        if inside and state.time_s - since >= _DWELL_S and not self._success:
            self._success, self._success_time_s = True, state.time_s
        if self._success and not state.in_tray:  # taken out or knocked out again
            self._success, self._success_time_s = False, math.nan

    def _judge_failure(self, state: TaskState, held: bool, rest: bool) -> None:
        if self._failure == "off_table":
            return
        if state.height_m < -0.05:
            self._failure = "off_table"
            return
        if (held and state.height_m > _LIFTED_M) or self._success:
            self._failure = ""
        lost = self._lifted and rest and not state.in_tray
        empty = (
            not self._lifted
            and not held
            and max(state.gripper, state.gripper_command) < _EMPTY_GRIPPER
        )
        if state.time_s - self._holds_since("lost", lost, state.time_s) >= _DWELL_S:
            self._failure = "dropped"
        elif state.time_s - self._holds_since("empty", empty, state.time_s) >= _DWELL_S:
            self._failure = "missed_grasp"

    def _stage_of(self, state: TaskState, held: bool) -> str:
        if self._success:
            return "done"
        if state.over_tray and (held or state.in_tray or self._stage == "place"):
            return "place"
        if held:
            return "lift" if state.height_m > _LIFTED_M else "grasp"
        return "reach"

    def _holds_since(self, name: str, condition: bool, now_s: float) -> float:
        """Return since when `condition` has held without a break (now, where it does not)."""
        if not condition:
            self._since.pop(name, None)
            return now_s
        return self._since.setdefault(name, now_s)
