"""The decision of every control tick: which command goes to the robot, if any, and why."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.contract.schema import Contract
from rewact_ros.control.chunks import Chunk, ChunkError, ChunkQueue, OldEpochError
from rewact_ros.control.limits import SafetyGate
from rewact_ros.control.modes import MOVING, SENDING, Event, Mode, ModeMachine
from rewact_ros.control.profile import PEAK_ACCELERATION, PEAK_SPEED, minimum_jerk
from rewact_ros.control.timing import DurationHistogram

FloatArray = NDArray[np.float64]
OVERRUN_PERIODS = 3.0
RESUME = "check the robot, then call ~/resume"


@dataclass(frozen=True)
class Now:
    """One instant on three clocks: steady (heartbeat, lease), age (contract ages) and ROS time."""

    steady_s: float
    age_s: float
    ros_ns: int


@dataclass(frozen=True)
class Answer:
    """Reply of an operator call: whether the mode asked for is in force, and why."""

    ok: bool
    mode: Mode
    reason: str


@dataclass(frozen=True)
class PathSettings:
    """Settings that are not the robot's own (those are in the contract)."""

    combine: str = "ensemble"
    ensemble_coefficient: float = 0.01
    lease_timeout_s: float = 0.3


@dataclass
class _Lease:
    mode: Mode
    holder: str
    request: int
    renewed_s: float


@dataclass(frozen=True)
class _Motion:
    start: FloatArray
    goal: FloatArray
    begin_ns: int
    duration_s: float

    def at(self, time_ns: int) -> tuple[FloatArray, bool]:
        """Minimum-jerk position at a time, and whether the motion is over."""
        phase = (time_ns - self.begin_ns) / NANO / self.duration_s
        return self.start + minimum_jerk(phase) * (self.goal - self.start), phase >= 1.0


class CommandPath:
    """Arbitration, chunk timing, watchdogs and safety gate of one robot, without ROS.

    Feed it messages as they come and call `step` once per command period. Not thread-safe.
    """

    def __init__(self, contract: Contract, settings: PathSettings | None = None) -> None:
        self.contract = contract
        self.settings = settings or PathSettings()
        self.modes = ModeMachine()
        self.gate = SafetyGate(contract.limits, 1.0 / contract.command_rate_hz)
        self.queue = ChunkQueue(
            len(contract.action_names),
            self.settings.combine,
            self.settings.ensemble_coefficient,
            contract.max_chunk_age_s,
        )
        # The first epoch is unique per process, so chunks made for an earlier hil are never taken.
        self.epoch = time.time_ns() // 1000
        self.commands = self.clipped = self.rejected = 0
        self.observation_to_command = DurationHistogram()
        self._epoch_start_ns = 0
        self._measured: FloatArray | None = None
        self._joints_s = -np.inf
        self._joint_fault = "no joint state received yet"
        self._heartbeat_s = -np.inf
        self._policy_fault = "no heartbeat received yet"
        self._lease: _Lease | None = None
        self._finished_request: tuple[str, int] | None = None
        self._motion: _Motion | None = None
        self._entered_ns: int | None = None
        self._entry_position: FloatArray | None = None
        self._used_stamp_ns = 0
        self._last_ros_ns = 0
        self._last_tick_s = -np.inf
        self._excused = False

    @property
    def mode(self) -> Mode:
        """Mode in force."""
        return self.modes.mode

    # Messages ---------------------------------------------------------------------------------

    def on_joints(self, positions: FloatArray, received_s: float) -> None:
        """Take measured positions of the commanded joints, (A,) in action order.

        `received_s` is when the oldest of them came in, on the age clock.
        """
        self._measured, self._joints_s, self._joint_fault = positions, received_s, ""

    def on_joint_fault(self, reason: str) -> None:
        """Take note that a joint state was unusable (joint missing, NaN)."""
        self._joint_fault = reason

    def on_heartbeat(self, fault: str, now: Now) -> None:
        """Take a policy heartbeat; `fault` is empty while the policy is ready."""
        self._heartbeat_s, self._policy_fault = now.steady_s, fault

    def on_chunk(self, chunk: Chunk, now: Now) -> str:
        """Take a chunk; returns why it was dropped, or an empty string."""
        if self.mode is not Mode.POLICY:
            return "not in POLICY"
        try:
            self.queue.add(chunk, now.ros_ns)
        except ChunkError as error:
            self.rejected += not isinstance(error, OldEpochError)
            return str(error)
        return ""

    def on_request(self, mode: Mode, holder: str, request: int, now: Now) -> str:
        """Take or renew the supervisor's lease on motion; returns why it was refused, or ''."""
        lease = self._lease
        if lease and lease.holder != holder and not self._expired(lease, now):
            return f"lease is held by {lease.holder}"
        self._lease = _Lease(mode, holder, request, now.steady_s)
        if mode is Mode.HOLD:
            self.modes.fire(Event.RELEASE, "released by the supervisor")
        return ""

    # Operator calls ---------------------------------------------------------------------------

    def arm(self, now: Now) -> Answer:
        """Leave DISARMED for HOLD at the measured joints; refused without fresh joint states."""
        if self.mode is not Mode.DISARMED:
            return self._answer(self.mode is not Mode.FAULT, f"already {self.mode.name}")
        if self.gate.moving:
            return self._answer(False, "still braking; arm again in a moment")
        fault = self._stale_joints(now)
        if fault:
            return self._answer(False, fault)
        assert self._measured is not None
        self.gate.start(self._measured)
        if np.abs(self.gate.position - self._measured).max() > 1e-3 and not self._within_start_jump(
            self.gate.position
        ):
            self.gate.stop_stream()
            return self._answer(False, "measured joints are outside the contract's position limits")
        self.observation_to_command.clear()
        self.modes.fire(Event.ARM, "armed")
        return self._answer(True, "armed")

    def disarm(self) -> Answer:
        """Brake, then fall silent."""
        self.modes.fire(Event.DISARM, "disarmed by the operator", "arm to go on")
        return self._answer(self.mode is Mode.DISARMED, self.modes.reason)

    def resume(self) -> Answer:
        """Allow motion again after a watchdog stopped it."""
        self.modes.resume()
        return self._answer(self.mode in SENDING, self.modes.reason)

    def clear_fault(self) -> Answer:
        """Leave FAULT for DISARMED."""
        self.modes.fire(Event.CLEAR_FAULT, "fault cleared", "arm to go on")
        return self._answer(self.mode is not Mode.FAULT, self.modes.reason)

    # The tick ---------------------------------------------------------------------------------

    def step(self, now: Now) -> FloatArray | None:
        """Decide one control tick; returns the command (A,) to send, or None for silence."""
        if now.ros_ns < self._last_ros_ns:
            self._stop("the ROS clock ran backwards")
        self._last_ros_ns = now.ros_ns
        if not self._excuse_overrun(now):
            self._watch(now)
        self._follow_lease(now)
        if self.mode not in SENDING:
            if self.gate.moving:
                return self._count(self.gate.brake())
            self.gate.stop_stream()
            return None
        target = self._target(now) if self.mode in MOVING else None
        if target is None:
            return self._count(self.gate.brake())
        gated = self.gate.apply(target)
        if gated is None:
            self.rejected += 1
            self._stop("a command was not finite")
            return self._count(self.gate.brake())
        self.clipped += gated.clipped
        return self._count(gated.command)

    def _excuse_overrun(self, now: Now) -> bool:
        """Whether this tick came so late that ages say nothing about the others.

        Messages that arrived while this process did not run are handled after this tick and
        before the next, so only one tick in a row is excused.
        """
        late = now.steady_s - self._last_tick_s > OVERRUN_PERIODS / self.contract.command_rate_hz
        self._last_tick_s = now.steady_s
        self._excused = late and not self._excused
        return self._excused

    def _count(self, command: FloatArray) -> FloatArray:
        self.commands += 1
        return command

    def _watch(self, now: Now) -> None:
        """Stop motion that has lost its grounds; each reason names the stream."""
        if self.mode not in MOVING:
            return
        fault = self._stale_joints(now)
        if self.mode is Mode.POLICY and not fault:
            fault = self._policy_silence(now)
            newest = self.queue.newest_stamp_ns
            age_s = (now.ros_ns - max(newest or 0, self._epoch_start_ns)) / NANO
            if not fault and age_s > self.contract.max_chunk_age_s:
                fault = (
                    f"newest chunk is {age_s:.2f} s old, limit {self.contract.max_chunk_age_s:g} s"
                )
        if fault:
            self._stop(fault)
        elif self._lease is None or self._expired(self._lease, now):
            self._stop("the supervisor's lease expired")

    def _follow_lease(self, now: Now) -> None:
        lease = self._lease
        if lease is None or self._expired(lease, now) or lease.mode is self.mode:
            return
        if lease.mode not in (Mode.POLICY, Mode.RESET) or self.modes.resume_required:
            return
        if self.mode in MOVING:
            self.modes.fire(Event.RELEASE, "the supervisor asked for another motion")
        if self.mode is not Mode.HOLD or self.gate.moving:
            return
        fault = self._stale_joints(now)
        if lease.mode is Mode.POLICY:
            self._start_policy(now, fault or self._policy_silence(now))
        elif self._finished_request != (lease.holder, lease.request):
            self._start_reset(lease, now, fault)

    def _start_policy(self, now: Now, fault: str) -> None:
        if fault:
            self.modes.reason, self.modes.remedy = f"waiting to start: {fault}", ""
            return
        if self.modes.fire(Event.START_POLICY, "policy in control"):
            self.epoch += 1
            self._epoch_start_ns = self._used_stamp_ns = now.ros_ns
            self.queue.start_epoch(self.epoch, now.ros_ns)
            self._entered_ns = None

    def _start_reset(self, lease: _Lease, now: Now, fault: str) -> None:
        reset = self.contract.reset
        if reset is None:
            fault = "the contract has no 'reset' pose"
        elif not fault and not self._within_start_jump(self.gate.position):
            fault = self._jump_text(self.gate.position)
        if fault or reset is None:
            self.modes.reason, self.modes.remedy = f"waiting to reset: {fault}", ""
            return
        if self.modes.fire(Event.START_RESET, "moving to the reset pose"):
            start, goal = self.gate.position, np.array(reset.pose)
            distance, limits = np.abs(goal - start), self.contract.limits
            duration_s = max(
                reset.duration_s,
                float((PEAK_SPEED * distance / limits.velocity).max()),
                float(np.sqrt(PEAK_ACCELERATION * distance / limits.acceleration).max()),
            )
            self._motion = _Motion(start, goal, now.ros_ns, duration_s)

    def _target(self, now: Now) -> FloatArray | None:
        if self.mode is Mode.RESET:
            return self._reset_target(now)
        command = self.queue.sample(now.ros_ns)
        if command is None:
            return None
        if self._entered_ns is None:
            if not self._within_start_jump(command):
                self._stop(f"first command refused: {self._jump_text(command)}")
                return None
            self._entered_ns, self._entry_position = now.ros_ns, self.gate.position
        newest = self.queue.newest_stamp_ns
        if newest is not None and newest != self._used_stamp_ns:
            self._used_stamp_ns = newest
            self.observation_to_command.add((now.ros_ns - newest) / NANO)
        phase = (now.ros_ns - self._entered_ns) / NANO / self.contract.handover_s
        assert self._entry_position is not None
        return self._entry_position + minimum_jerk(phase) * (command - self._entry_position)

    def _reset_target(self, now: Now) -> FloatArray | None:
        assert self._motion is not None
        target, over = self._motion.at(now.ros_ns)
        if over and np.abs(self.gate.position - target).max() < 1e-3:
            lease = self._lease
            self._finished_request = (lease.holder, lease.request) if lease else None
            self._motion = None
            self.modes.fire(Event.RESET_DONE, "reset pose reached")
        return target

    # Checks -----------------------------------------------------------------------------------

    def _stop(self, reason: str) -> None:
        if self.modes.fire(Event.STOP, reason, RESUME):
            self._motion = None

    def _expired(self, lease: _Lease, now: Now) -> bool:
        return now.steady_s - lease.renewed_s > self.settings.lease_timeout_s

    def _stale_joints(self, now: Now) -> str:
        limit = min(part.max_age_s for part in self.contract.state)
        age = now.age_s - self._joints_s
        if self._joint_fault and (self._measured is None or age > limit):
            return self._joint_fault
        if age > limit:
            return f"joint state is {age:.2f} s old, limit {limit:g} s"
        return ""

    def _policy_silence(self, now: Now) -> str:
        age, limit = now.steady_s - self._heartbeat_s, self.contract.heartbeat_timeout_s
        if not np.isfinite(age):
            return "policy: no heartbeat received yet"
        if age > limit:
            return f"policy heartbeat is {age:.2f} s old, limit {limit:g} s"
        return f"policy: {self._policy_fault}" if self._policy_fault else ""

    def _within_start_jump(self, command: FloatArray) -> bool:
        assert self._measured is not None
        return bool((np.abs(command - self._measured) <= self.contract.limits.start_jump).all())

    def _jump_text(self, command: FloatArray) -> str:
        assert self._measured is not None
        excess = np.abs(command - self._measured) - self.contract.limits.start_jump
        i = int(np.argmax(excess))
        return (
            f"{self.contract.action_names[i]} commanded to {command[i]:.3f}, measured "
            f"{self._measured[i]:.3f}, max_start_jump {self.contract.limits.start_jump[i]:g}"
        )

    def _answer(self, ok: bool, reason: str) -> Answer:
        return Answer(ok, self.mode, reason)
