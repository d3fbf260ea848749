"""A scripted expert that plans from the simulator's truth, and fails for real when asked to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rewact_ros.control.profile import minimum_jerk
from rewact_ros.sim.pick_place.grasp_kinematics import tip_down, tip_of
from rewact_ros.sim.pick_place.simulation import HOME, Layout
from rewact_ros.sim.task import FloatArray
from rewact_ros.sim.trajectory import Trajectory

FAULTS = ("dropped_cube", "missed_grasp")
_MAX_VELOCITY = np.array([1.1, 1.1, 1.1, 1.1, 1.3, 1.3, 5.0])  # rad/s; gripper 1/s
_ABOVE_M, _GRASP_M, _RELEASE_M = 0.125, 0.010, 0.040  # finger tip heights
_NOISE_FLOOR, _NOISE_FADE_S = 0.25, 0.35
_STILL_S = 0.7


@dataclass(frozen=True)
class Plan:
    """A planned motion and its landmarks, in seconds since the plan's start.

    Attributes:
        trajectory: (7,) pose over time.
        closed_s: the gripper has closed (0 in a plan that begins with the cube in it).
        lifted_s: the arm has lifted the cube.
        released_s: the gripper has opened over the tray (equal to `lifted_s` in a plan to retry).
        delicate: spans of time in which noise would make the expert fail.
    """

    trajectory: Trajectory
    closed_s: float
    lifted_s: float
    released_s: float
    delicate: tuple[tuple[float, float], ...]


class Sight(Protocol):
    """What the expert looks at: a simulation, or a scene that somebody sees."""

    layout: Layout

    @property
    def command(self) -> FloatArray:
        """(7,) command in force."""

    def cube_pose(self) -> tuple[FloatArray, float]:
        """Position (3,) in m and yaw in rad."""


class Expert:
    """Plans a pick-and-place for the objects where they lie now.

    Args:
        sim: where things are.
        fault: None, `missed_grasp` (the fingers close beside or above the cube) or `dropped_cube`
            (they open on the way, or beside the tray).
        rng: chooses the kind and size of the fault.

    Raises:
        ValueError: unknown fault.
    """

    def __init__(
        self,
        sim: Sight,
        fault: str | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"fault {fault!r}: expected None or one of {', '.join(FAULTS)}")
        self._sim = sim
        self._fault = fault
        self._rng = rng if rng is not None else np.random.default_rng(0)
        self._plan: Plan | None = None

    @property
    def current(self) -> Plan:
        """The plan in force.

        Raises:
            RuntimeError: before the first `plan()`.
        """
        if self._plan is None:
            raise RuntimeError(
                "the expert has no plan yet: call plan() after the simulation's reset"
            )
        return self._plan

    @property
    def duration_s(self) -> float:
        """Length of the plan."""
        return self.current.trajectory.duration_s

    @property
    def nominal_s(self) -> float:
        """When the cube is let go."""
        return self.current.released_s

    def plan(
        self,
        start: FloatArray | None = None,
        give_up: bool = False,
        rescue: bool = False,
        holding: bool = False,
    ) -> Plan:
        """Plan from a (7,) pose at rest (default: the command in force).

        Args:
            start: where the motion begins.
            give_up: end after the lift with an open gripper, ready for another `plan()`.
            rescue: the start is anywhere, so first rise straight up where the fingers are low.
            holding: a rescue with the cube between the fingers: carry it on.

        Raises:
            ValueError: the cube is out of reach.
        """
        start = self._sim.command if start is None else np.asarray(start, dtype=np.float64)
        path = Trajectory(start, _MAX_VELOCITY)
        if rescue:
            spot = _rise(path, start)
            if holding:
                return self._finish(path, spot, 0.0, path.duration_s, ())
        x, y, z, yaw = self._grasp()
        path.move_to(_pose(x, y, _ABOVE_M, yaw, 1.0), 0.7)
        down_s = path.move_to(_pose(x, y, z, yaw, 1.0), 0.8, overlap_s=0.25)
        closed_s = path.move_to(_pose(x, y, z, yaw, 0.0), 0.45, overlap_s=0.05)
        lifted_s = path.move_to(_pose(x, y, _ABOVE_M, yaw, 0.0), 0.75, overlap_s=0.05)
        grasping = (down_s - 0.35, closed_s + 0.25)
        if give_up:
            end_s = path.move_to(_pose(x, y, _ABOVE_M, yaw, 1.0), 0.35, overlap_s=0.15)
            self._plan = Plan(path, closed_s, lifted_s, end_s, (grasping,))
            return self._plan
        return self._finish(path, (x, y), closed_s, lifted_s, (grasping,))

    def command(self, t_s: float) -> FloatArray:
        """Return the (7,) command at `t_s` since the plan's start: rad, gripper 0 to 1."""
        return self.current.trajectory.position(t_s)

    def noise_scale(self, t_s: float) -> float:
        """Return how much motion noise the plan stands at `t_s`: 1, and little near the cube."""
        scale = 1.0
        for begin_s, end_s in self.current.delicate:
            outside_s = max(begin_s - t_s, t_s - end_s, 0.0)
            scale = min(scale, float(minimum_jerk(outside_s / _NOISE_FADE_S)))
        return _NOISE_FLOOR + (1 - _NOISE_FLOOR) * scale

    def _finish(
        self,
        path: Trajectory,
        grasp_xy: tuple[float, float],
        closed_s: float,
        lifted_s: float,
        delicate: tuple[tuple[float, float], ...],
    ) -> Plan:
        """Append everything from the lift on, and keep the plan."""
        released_s, releasing = self._carry(path, grasp_xy)
        path.move_to(HOME, 0.9, overlap_s=0.25)
        path.wait(_STILL_S)
        self._plan = Plan(path, closed_s, lifted_s, released_s, (*delicate, releasing))
        return self._plan

    def _grasp(self) -> tuple[float, float, float, float]:
        """Return finger tip target and yaw of the grasp, off the cube for a missed grasp."""
        position, yaw = self._sim.cube_pose()
        x, y = float(position[0]), float(position[1])
        # The cube looks alike every quarter turn: take the turn nearest to the arm's direction.
        bearing = math.atan2(y, x)
        yaw = bearing + (yaw - bearing + math.pi / 4) % (math.pi / 2) - math.pi / 4
        z = _GRASP_M
        if self._fault == "missed_grasp":
            kind = self._rng.choice(("beside", "above"))
            if kind == "above":
                z += self._rng.uniform(0.045, 0.06)
            else:  # across the fingers' opening direction, so that they close on nothing
                miss = self._rng.uniform(0.045, 0.06) * self._rng.choice((-1.0, 1.0))
                x, y = x + miss * math.cos(yaw), y + miss * math.sin(yaw)
        return x, y, z, yaw

    def _carry(
        self, path: Trajectory, grasp_xy: tuple[float, float]
    ) -> tuple[float, tuple[float, float]]:
        """Append carry, release and rise; return the release time and its delicate span."""
        tray = self._sim.layout.tray_xy
        heading = math.atan2(tray[1], tray[0])
        over = _pose(*tray, _ABOVE_M, heading, 0.0)
        if self._fault == "dropped_cube":
            share = float(self._rng.uniform(0.25, 0.5))
            if self._rng.random() < 0.5:  # opens on the way and goes on empty-handed
                spot = _between(grasp_xy, tray, share)
                yaw = math.atan2(spot[1], spot[0])
                path.move_to(_pose(*spot, _ABOVE_M, yaw, 0.0), 0.6, overlap_s=0.2)
                path.move_to(_pose(*spot, _ABOVE_M, yaw, 1.0), 0.35, overlap_s=0.1)
                over[6] = 1.0
            else:  # puts it down beside the tray
                tray = _between(grasp_xy, tray, share)
                heading = math.atan2(tray[1], tray[0])
                over = _pose(*tray, _ABOVE_M, heading, 0.0)
        path.move_to(over, 0.8, overlap_s=0.25)
        low = _pose(*tray, _RELEASE_M, heading, float(over[6]))
        low_s = path.move_to(low, 0.6, overlap_s=0.25)
        low[6] = 1.0
        released_s = path.move_to(low, 0.4, overlap_s=0.05)
        path.move_to(_pose(*tray, _ABOVE_M, heading, 1.0), 0.6, overlap_s=0.05)
        return released_s, (low_s - 0.25, released_s + 0.15)


def _pose(x_m: float, y_m: float, z_m: float, yaw_rad: float, gripper: float) -> FloatArray:
    return np.append(tip_down(x_m, y_m, z_m, yaw_rad), gripper)


def _rise(path: Trajectory, start: FloatArray) -> tuple[float, float]:
    """Append a rise above where the finger tips are, the wrist unturned; return that spot.

    Out of reach of an upright gripper nothing is appended: the arm is stretched, not low.
    """
    x, y, z = tip_of(start)
    if z < _ABOVE_M:
        try:
            above = _pose(x, y, _ABOVE_M, start[0] - start[5], start[6])
        except ValueError:
            return x, y
        path.move_to(above, 0.5)
    return x, y


def _between(
    start: tuple[float, float], end: tuple[float, float], share: float
) -> tuple[float, float]:
    return (
        start[0] + share * (end[0] - start[0]),
        start[1] + share * (end[1] - start[1]),
    )
