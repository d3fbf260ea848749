"""Jogging: sticks, buttons or keys become position targets of the robot's joints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.load_teleop import CARTESIAN
from rewact_ros.contract.schema import Contract, ContractError, Jog, TeleopSource
from rewact_ros.kinematics import (
    TURN_LENGTH_M,
    Arm,
    ArmModel,
    pose_error,
    rotation_by,
    solve,
)

FloatArray = NDArray[np.float64]
Pose = tuple[FloatArray, FloatArray]  # place (3,) in m, rotation (3, 3)
# A stall of the process must not become a jump: no tick moves for longer than this.
LONGEST_TICK_S = 0.05
# A deflection below this is rest, and moves nothing; joy_node's own dead zone is as wide.
AT_REST = 0.05
# Of the contract's velocity limits; the rest is for hil, which blends and catches up.
SPEED_SHARE = 0.5
# How far the wanted tool pose may run ahead of what the arm reaches: a longer leash leaves more to
# make up when the stick turns back, a shorter one stops the tool where the arm only lags.
LEASH_M, LEASH_RAD = 0.005, 0.05


class JoyError(ValueError):
    """A Joy message lacks an axis or button that the contract names."""


def joy_rates(jog: Jog, axes: Sequence[float], buttons: Sequence[int]) -> FloatArray:
    """Deflections of a Joy message: (D,) in [-1, 1] per direction of the jog.

    Raises:
        JoyError: an axis or button is not in the message, or an axis is not finite.
    """
    rates = np.zeros(len(jog.directions))
    for direction, axis in jog.axes:
        if axis >= len(axes) or not np.isfinite(axes[axis]):
            got = axes[axis] if axis < len(axes) else f"{len(axes)} axes"
            raise JoyError(f"joy: axis {axis} for '{direction}': expected a number, got {got}")
        rates[jog.directions.index(direction)] += axes[axis]
    for direction, *pair in jog.buttons:
        for button, sign in zip(pair, (1.0, -1.0), strict=True):
            if is_pressed(buttons, button):
                rates[jog.directions.index(direction)] += sign
    return np.clip(rates, -1.0, 1.0)


def twist_rates(jog: Jog, twist: Sequence[float]) -> FloatArray:
    """Deflections (D,) in [-1, 1] of a twist (6,) in the device's numbers.

    Raises:
        JoyError: a number is not finite.
    """
    assert jog.device is not None
    rates, given = np.zeros(len(jog.directions)), np.asarray(twist, dtype=np.float64)
    if not np.isfinite(given).all():
        raise JoyError(f"{jog.device.topic}: expected a finite twist, got {given}")
    # Negative speeds turn a direction round; here as there.
    tool = jog.device.scale * given / np.abs(np.array(jog.speed[: len(CARTESIAN)]))
    rates[: len(CARTESIAN)] = np.clip(tool, -1.0, 1.0)
    return rates


def is_pressed(buttons: Sequence[int], button: int) -> bool:
    """Whether a button is held down.

    Raises:
        JoyError: the message has no such button.
    """
    if button >= len(buttons):
        raise JoyError(f"joy: expected a button {button}, got {len(buttons)} buttons")
    return bool(buttons[button])


class JogIntegrator:
    """Moves a target from where the robot is, at the speeds that the contract gives.

    Args:
        contract: for joint order and limits.
        jog: mode, directions, speeds.
        arm: kinematics of `jog.tool`; needed, and used, in Cartesian mode only.
    """

    def __init__(self, contract: Contract, jog: Jog, arm: Arm | None = None) -> None:
        if (jog.tool is None) != (arm is None):
            raise ValueError("JogIntegrator: expected the arm's kinematics iff the jog has a tool")
        names, limits = contract.action_names, contract.limits
        self.directions = jog.directions
        self._arm = arm
        self._low, self._high = limits.low, limits.high
        self._speed = np.array(jog.speed)
        self._max_speed = SPEED_SHARE * limits.velocity
        moved = [joint for joint, _ in jog.tool.joints] if jog.tool else []
        self._chain = np.array([names.index(joint) for joint in moved], dtype=np.intp)
        self._first_joint = len(CARTESIAN) if jog.tool else 0
        self._single = np.array(
            [names.index(joint) for joint in jog.directions[self._first_joint :]], dtype=np.intp
        )
        self._q: FloatArray = np.zeros(len(names))
        nowhere: Pose = (np.zeros(3), np.eye(3))
        self._goal = self._begin = nowhere

    def start(self, joints: FloatArray) -> FloatArray:
        """Rest at joints (A,), brought within the limits; returns them."""
        self._q = np.clip(joints, self._low, self._high)
        if self._arm is not None:
            self._goal = self._begin = self._arm.pose(self._q[self._chain])
        return self._q

    def step(self, rates: FloatArray, dt_s: float, moved: FloatArray | None = None) -> FloatArray:
        """Move on for `dt_s`; returns the target (A,).

        Args:
            rates: (D,) in [-1, 1].
            dt_s: since the step before.
            moved: (6,) how far a device has gone since `start`: m, and a rotation vector in rad;
                the tool follows it at no more than the jog's speed. None: `rates` move the tool.
        """
        dt_s = min(max(dt_s, 0.0), LONGEST_TICK_S)
        motion = rates * self._speed * dt_s
        if moved is not None:
            motion[: self._first_joint] = self._towards(moved, dt_s)
        largest = self._max_speed * dt_s
        q = self._q.copy()
        single = self._single
        step = np.clip(motion[self._first_joint :], -largest[single], largest[single])
        q[single] = np.clip(q[single] + step, self._low[single], self._high[single])
        if self._arm is not None and dt_s > 0:
            q[self._chain] = self._follow(self._arm, motion[: self._first_joint], largest)
        self._q = q
        return q

    def _towards(self, moved: FloatArray, dt_s: float) -> FloatArray:
        """(6,) what is left to go, no faster than the slowest of the jog's speeds."""
        there = self._begin[0] + moved[:3], rotation_by(moved[3:]) @ self._begin[1]
        left, speed = pose_error(self._goal, there), np.abs(self._speed[: self._first_joint])
        for part in (slice(0, 3), slice(3, 6)):
            longest = float(speed[part].min()) * dt_s
            left[part] *= longest / max(longest, float(np.linalg.norm(left[part])), 1e-12)
        return left

    def _follow(self, arm: Arm, motion: FloatArray, largest: FloatArray) -> FloatArray:
        """Move the wanted tool pose and let the chain (n,) follow.

        Beyond its reach the wanted pose waits, so the tool neither slides along the edge nor has a
        way to make up when the stick turns back.
        """
        chain, before = self._chain, self._goal
        goal = (before[0] + motion[:3], rotation_by(motion[3:]) @ before[1])
        q = solve(arm, self._q[chain], goal, self._low[chain], self._high[chain], largest[chain])
        reached = arm.pose(q)
        if not _strays(pose_error(reached, goal), pose_error(reached, before)):
            self._goal = goal
        return q


def make_integrator(
    contract: Contract, source: TeleopSource, simulated: Callable[[], str]
) -> JogIntegrator:
    """The jog of a source, with the kinematics of its tool where it has one.

    Args:
        simulated: as for `ArmModel`.

    Raises:
        ContractError: the source has no `jog`.
        ArmModelError, SimulationUnavailableError: the tool's model does not load.
    """
    if source.jog is None:
        raise ContractError(
            f"teleop.{source.name}.jog: missing; it says how fast and in which directions to jog"
        )
    arm = ArmModel(source.jog.tool, simulated) if source.jog.tool is not None else None
    return JogIntegrator(contract, source.jog, arm)


def _strays(ahead: FloatArray, behind: FloatArray) -> bool:
    """Whether a wanted pose is off the leash, and further from the reached one than before."""
    weight = np.repeat([1.0, TURN_LENGTH_M], 3)
    off = np.linalg.norm(ahead[:3]) > LEASH_M or np.linalg.norm(ahead[3:]) > LEASH_RAD
    return bool(off and np.linalg.norm(weight * ahead) > np.linalg.norm(weight * behind))


@dataclass(frozen=True)
class JogInput:
    """What a human asks for at one moment.

    Attributes:
        pressed: the deadman is held down.
        rates: (D,) in [-1, 1] per direction.
        received_s: when that was known, on the steady clock.
        pose: of a device that has one: the tool moves as it does, from the takeover on.
    """

    pressed: bool
    rates: FloatArray
    received_s: float
    pose: Pose | None = None


class JogSource:
    """Decides, tick by tick, whether there is a target and which.

    A direction counts once it was seen at rest, and anew after every silence: a stick that lies on
    its side, a trigger that rests at 1 and a key that hangs ask for nothing.

    The target stands at the robot's joints until the human is in control with the deadman down;
    then it moves. A standing target tells hil that the device is alive, and moves nothing. Without
    fresh input or joints there is no target.

    Args:
        jog: the integrator.
        max_age_s: silence after which the input counts as lost.
    """

    def __init__(self, jog: JogIntegrator, max_age_s: float) -> None:
        self._jog = jog
        self._max_age_s = max_age_s
        self._last_s: float | None = None
        self._given_s = float("inf")
        self._rested = np.zeros(len(jog.directions), dtype=bool)
        self._held: Pose | None = None
        self.reason = "no input yet"

    def step(
        self, now_s: float, given: JogInput | None, joints: FloatArray | None, in_control: bool
    ) -> FloatArray | None:
        """Decide one tick.

        Args:
            now_s: steady clock.
            given: newest input, or None before the first.
            joints: (A,) where the robot is now; None while that is not known.
            in_control: this source leads the robot.

        Returns:
            target (A,), or None: publish nothing. `reason` says why it does not move.
        """
        last_s, self._last_s = self._last_s, None
        self.reason = self._fault(now_s, given)
        fresh = given is not None and now_s - given.received_s <= self._max_age_s
        self._given_s = given.received_s if given is not None and fresh else float("inf")
        if self.reason or given is None:
            self._rested[:] = False
            return None
        deflected = np.abs(given.rates) > AT_REST
        self._rested |= ~deflected
        if joints is None:
            self.reason = "joint positions are not known"
            return None
        if not given.pressed or not in_control:
            self.reason = "not in control" if given.pressed else "deadman is not pressed"
            return self._start(joints, given)
        self._last_s = now_s
        if last_s is None:
            return self._start(joints, given)
        if not self._rested.all():
            names = [
                d
                for d, rested in zip(self._jog.directions, self._rested, strict=True)
                if not rested
            ]
            self.reason = f"{', '.join(names)}: not seen at rest yet; let go of stick and trigger"
        rates, moved = np.where(self._rested & deflected, given.rates, 0.0), None
        if self._held is not None and given.pose is not None:
            moved = pose_error(self._held, given.pose)
        return self._jog.step(rates, now_s - last_s, moved)

    def _start(self, joints: FloatArray, given: JogInput) -> FloatArray:
        """Stand at the joints; a new press takes hold of the device anew, as a clutch does."""
        self._held = given.pose
        return self._jog.start(joints)

    def _fault(self, now_s: float, given: JogInput | None) -> str:
        if given is None:
            return "no input yet"
        age_s = now_s - given.received_s
        if age_s > self._max_age_s:
            return f"input is {age_s:.2f} s old, limit {self._max_age_s:g} s"
        silent_s = given.received_s - self._given_s  # it may have ended between two ticks
        if silent_s > self._max_age_s:
            return f"input was silent for {silent_s:.2f} s, limit {self._max_age_s:g} s"
        return ""
