"""The decision of every control tick: which command goes to the robot, if any, and why."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.contract.schema import Contract
from rewact_ros.control.chunks import Chunk, ChunkError, ChunkQueue, OldEpochError
from rewact_ros.control.gates import Gate, PartGates, gate_of
from rewact_ros.control.human import HumanControl
from rewact_ros.control.joint_sources import joint_sources
from rewact_ros.control.leads import RESET_GAIN_HZ, PolicyLead, ResetLead
from rewact_ros.control.limits import VelocityGate, outside_limits, start_jump
from rewact_ros.control.modes import MOVING, SENDING, Event, Mode, ModeMachine
from rewact_ros.control.motion import Handover
from rewact_ros.control.pose_input import make_input
from rewact_ros.control.profile import PEAK_SPEED
from rewact_ros.control.space import Space
from rewact_ros.control.violations import Violation, ViolationCounts, worst
from rewact_ros.control.watch import Following, Heartbeat, Joints, Lease, Now

FloatArray = NDArray[np.float64]
# After a tick that is later than this, what came meanwhile still waits unread, so ages say nothing.
# Fewer would let ordinary jitter skip the watchdogs, more would blame streams for a stall of ours.
OVERRUN_PERIODS = 3.0
# For so long an arm may stand on an old command and go on by itself; a stopped ROS clock likewise.
OVERRUN_STOP_S = 0.5
FASTEST_CLOCK = 20.0  # of a simulation, in s of ROS time per s
LEASE_EXPIRED = "the supervisor's lease expired"
RESUME = "check the robot, then call ~/resume"
CONFIRM = "look at the workspace, then call ~/confirm_reset"


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
    ensemble_coefficient: float = 0.01  # ACT's m (Zhao et al. 2023)
    interpolation: str = "linear"
    crossfade_s: float = 0.1  # measured in docs/chunks-and-limits.md; longer follows news later
    lease_timeout_s: float = 0.3  # the supervisor renews at 10 Hz: two messages may be lost
    policy_required: bool = False  # arm only beside a policy that is ready

    def queue(self, contract: Contract) -> ChunkQueue:
        """An empty chunk queue of these settings."""
        return ChunkQueue(
            len(contract.action_names),
            self.combine,
            self.ensemble_coefficient,
            contract.max_chunk_age_s,
            self.interpolation,
            self.crossfade_s,
            contract.poses,
        )


class CommandPath:
    """Arbitration, chunk timing, watchdogs and safety gate of one robot, without ROS.

    Feed it messages as they come and call `step` once per command period. Not thread-safe.
    """

    def __init__(self, contract: Contract, settings: PathSettings | None = None) -> None:
        self.contract = contract
        self.settings = settings or PathSettings()
        self.modes = ModeMachine()
        self.gate: Gate = gate_of(contract)
        self.space = Space(contract.poses)
        self.by_velocity = isinstance(self.gate, VelocityGate)
        self.policy = PolicyLead(contract, self.settings.queue(contract))
        self.reset = ResetLead(contract, self.by_velocity)
        self.human = HumanControl(contract, make_input)
        self.joints = Joints(contract)
        self.sources = joint_sources(contract)
        self.following = Following(contract)
        self.heartbeat = Heartbeat(contract.heartbeat_timeout_s)
        self.lease = Lease(self.settings.lease_timeout_s)
        # The first epoch is unique per process, so chunks made for an earlier hil are never taken.
        self.epoch = time.time_ns() // 1000
        self.commands = self.clipped = self.rejected = 0
        self.violations = ViolationCounts()
        self.violation = ""
        self.rogue = self.twin = ""
        # Of the graph: why no joint states come, and why commands would reach nobody.
        self.absent = self.untaken = ""
        self.unready = ""  # what of the robot does not take commands
        self._fault_of = ""
        self._handover: Handover | None = None
        self._followed: FloatArray = np.zeros(len(contract.action_names))
        self._finished: tuple[str, int] | None = None
        self._confirmed: tuple[str, int] | None = None
        self._last_ros_ns = 0
        self._last_tick_s: float | None = None
        self._excused = False

    @property
    def mode(self) -> Mode:
        """Mode in force."""
        return self.modes.mode

    @property
    def source(self) -> str:
        """Who leads: policy, reset, the name of a teleop source, or none."""
        if self.mode is Mode.HUMAN and self.human.active:
            return self.human.active.source.name
        return {Mode.POLICY: "policy", Mode.RESET: "reset"}.get(self.mode, "none")

    @property
    def sent(self) -> FloatArray:
        """Last command (A,): positions, or velocities where the contract commands those."""
        return self.gate.velocity if isinstance(self.gate, VelocityGate) else self.gate.position

    # Messages ---------------------------------------------------------------------------------

    def on_chunk(self, chunk: Chunk, now: Now) -> str:
        """Take a chunk; returns why it was dropped, or an empty string."""
        if self.mode is not Mode.POLICY:
            return "not in POLICY"
        try:
            self.policy.queue.add(chunk, now.ros_ns, at_rest=not self.gate.moving)
        except ChunkError as error:
            self.rejected += not isinstance(error, OldEpochError)
            return str(error)
        return ""

    def on_request(
        self, mode: Mode, holder: str, request: int, now: Now, proof: str = "", promised: str = ""
    ) -> str:
        """Take or renew the supervisor's lease on motion; returns why it was refused, or ''."""
        refusal = self.lease.take(mode, holder, request, now, proof, promised)
        if self.lease.changed_hands and self.mode is not Mode.HUMAN:
            # Between two ticks: what moves was asked for by the one before.
            self.stop(LEASE_EXPIRED)
        if not refusal and mode is Mode.HOLD and self.mode is not Mode.HUMAN:
            self.modes.fire(Event.RELEASE, "released by the supervisor")
        return refusal

    def on_publishers(self, strangers: str) -> None:
        """Take who else publishes on a command topic: node names, or an empty string for nobody."""
        self.rogue = strangers
        if strangers:
            self._fault(
                "commands",
                f"{strangers} also publishes robot commands",
                "stop that node, then call ~/clear_fault",
            )

    def _fault(self, of: str, reason: str, remedy: str) -> None:
        """Brake and fall silent until `clear_fault`; a fault that goes on may get a better reason.

        The graph knows the names of a new node only after a while.
        """
        if self.modes.fire(Event.FAULT, reason, remedy):
            self.human.disengage()
            self._fault_of = of
        elif self.mode is Mode.FAULT and self._fault_of == of:
            self.modes.reason = reason

    def fail(self, reason: str) -> None:
        """An error of our own: nothing here is to be relied on until a person clears it."""
        self._fault("internal", reason, "report it, then call ~/clear_fault")

    def stop(self, reason: str) -> None:
        """Brake and hold until `resume`; without effect where nothing moves."""
        if self.modes.fire(Event.STOP, reason, RESUME):
            self.human.disengage()

    # Operator calls ---------------------------------------------------------------------------

    def arm(self, now: Now) -> Answer:
        """Leave DISARMED for HOLD at the measured joints.

        Refused without fresh joint states inside their limits, and before the policy is ready where
        the settings require one.
        """
        if self.mode is not Mode.DISARMED:
            return self._answer(self.mode is not Mode.FAULT, f"already {self.mode.name}")
        refusal = self.arm_refusal(now)
        if refusal:
            return self._answer(False, refusal)
        assert self.joints.measured is not None
        self.gate.start(self.joints.measured)
        self.policy.observation_to_command.clear()
        self.human.disengage()
        latched = self.modes.resume_required
        self.modes.fire(Event.ARM, "armed, still stopped" if latched else "armed")
        self.modes.remedy = RESUME if latched else ""
        return self._answer(True, self.modes.reason)

    def arm_refusal(self, now: Now) -> str:
        """Why the robot cannot be armed now, or an empty string; changes nothing."""
        if self.gate.moving:
            return "still braking; arm again in a moment"
        return next((refusal for _, refusal in self.refusals(now)), "")

    def refusals(self, now: Now) -> Iterator[tuple[str, str]]:
        """(what is at fault, why it must not be armed) in the order in which `arm` refuses.

        `rewact doctor` tells all of them, in these words.
        """
        if self.twin:
            yield "hil", f"{self.twin}; stop it first"
        if self.rogue:
            yield "commands", f"{self.rogue} also publishes robot commands; stop it first"
        if self.untaken:
            yield "controllers", self.untaken
        pressed = self.human.pressed(now.age_s)
        if pressed:  # armed like this, the arm would follow that hand at once
            yield "deadman", f"teleop {pressed}: the deadman is down; let it go first"
        for refusal in filter(None, (source.refusal(now) for source in self.sources)):
            yield "joint states", refusal
        fault = self.joints.fault(now)
        if fault or self.joints.measured is None:
            yield "joints", self.absent or fault
            return
        if self.unready:
            yield "controllers", self.unready
        outside = outside_limits(self.joints.measured, self.contract)
        if outside:
            yield "pose", outside
        # Armed earlier, the arm would go to its reset pose at once and stop there.
        waits = self.heartbeat.silence(now) if self.settings.policy_required else ""
        if waits:
            yield "policy", f"waiting for the policy to be ready: {waits}"

    def unheeded(self, now: Now) -> str:
        """Why a person presses a deadman in vain, or an empty string."""
        follows = self.mode is Mode.HUMAN or self.mode not in SENDING
        return "" if follows else self.human.unheeded(now.age_s)

    def disarm(self) -> Answer:
        """Brake, then fall silent."""
        self.modes.fire(Event.DISARM, "disarmed by the operator", "arm to go on")
        self.human.disengage()
        return self._answer(self.mode is Mode.DISARMED, self.modes.reason)

    def resume(self) -> Answer:
        """Allow motion again after a watchdog stopped it; without effect before `arm`."""
        if self.mode not in SENDING:
            return self._answer(False, f"{self.mode.name}: arm first, then resume")
        self.modes.resume()
        return self._answer(self.mode in SENDING, self.modes.reason)

    def clear_fault(self) -> Answer:
        """Leave FAULT for DISARMED."""
        self.modes.fire(Event.CLEAR_FAULT, "fault cleared", "arm to go on")
        return self._answer(self.mode is not Mode.FAULT, self.modes.reason)

    def confirm_reset(self) -> Answer:
        """Let the reset motion that the supervisor asks for begin, this once."""
        if self.lease.mode is not Mode.RESET:
            return self._answer(False, "no reset motion is asked for")
        self._confirmed = (self.lease.holder, self.lease.request)
        return self._answer(True, "reset motion confirmed")

    def take_over(self, now: Now, source: str = "", why: str = "asked for") -> Answer:
        """Give a teleop source (empty: the first that sends) the arm, wherever it is moving.

        Without a source to follow, the policy is stopped all the same.
        """
        if self.mode not in SENDING:
            return self._answer(False, f"{self.mode.name}: arm first")
        if self.mode is Mode.HUMAN:
            return self._answer(True, self.modes.reason)
        refusal = self.human.refusal(source, now.age_s) or self._grounds(now)
        refusal = refusal or self._jump(self.sent)
        if refusal:
            self.stop(f"takeover: {refusal}")
            return self._answer(False, refusal)
        name = self.human.engage(source, self._place(), now.age_s)
        self.modes.fire(Event.TAKE_OVER, f"{name} in control: {why}")
        self._begin_epoch(now)
        return self._answer(True, self.modes.reason)

    def release(self, now: Now) -> Answer:
        """End the person's turn: HOLD until `resume`, or the policy, as the contract says."""
        if self.mode is not Mode.HUMAN:
            return self._answer(True, f"no person is in control ({self.mode.name})")
        back = self.contract.on_release == "policy" and not self.modes.resume_required
        self.modes.fire(
            Event.RELEASE,
            "released to the policy" if back else "released by the operator",
            "" if back else "call ~/resume to give the arm back to the policy",
            latch=not back,
        )
        self.human.disengage()
        self._begin_epoch(now)
        return self._answer(True, self.modes.reason)

    # The tick ---------------------------------------------------------------------------------

    def step(self, now: Now) -> FloatArray | None:
        """Decide one control tick; returns the command (A,) to send, or None for silence."""
        self._watch_clock(now)
        if isinstance(self.gate, PartGates):
            self.gate.see(self.joints.measured)
        if not self._excuse_overrun(now):
            self._watch(now)
        # A fault comes before a person, and a person before the supervisor.
        self._follow_human(now)
        self._follow_lease(now)
        if self.mode not in SENDING:
            return self.rest()
        target = self._target(now) if self.mode in MOVING else None
        if target is None:
            return self._count(self.gate.brake())
        return self._count(self._gated(target))

    def rest(self) -> FloatArray | None:
        """Brake (A,), then fall silent (None)."""
        if self.gate.moving:
            return self._count(self.gate.brake())
        self.gate.stop_stream()
        return None

    def _gated(self, target: FloatArray) -> FloatArray:
        measured = self.joints.measured
        assert measured is not None
        gated = self.gate.apply(target, measured)
        violations = self.gate.check(target, measured) if gated is None else gated.violations
        if violations:
            self._judge(violations)
        if gated is None:
            self.rejected += 1
            return self.gate.brake()
        self.clipped += gated.clipped
        return gated.command

    def _judge(self, violations: tuple[Violation, ...]) -> None:
        """Count what a source asked beyond a limit, and do as the contract says."""
        self.violations.add(violations)
        text = violations[0].text(self.contract.action_names)
        self.violation = f"{self.source}: {text}"
        verdict = worst(violations, self.contract.on_violation)
        if verdict == "hold":
            self.stop(self.violation)
        elif verdict == "fault":
            self._fault("violation", self.violation, "mend the source, then call ~/clear_fault")

    def _watch_clock(self, now: Now) -> None:
        """Stop at a jump of ROS time, back or ahead.

        Ages show a jump ahead too, but not where a chunk of the new time comes before this tick: it
        would be followed from wherever it is by then.
        """
        ahead_s = (now.ros_ns - self._last_ros_ns) / NANO
        if ahead_s < 0:
            self.stop("the ROS clock ran backwards")
        elif self._last_tick_s is not None and self._last_ros_ns:
            ahead_s -= FASTEST_CLOCK * (now.steady_s - self._last_tick_s)
            if ahead_s > self.contract.max_chunk_age_s:
                self.stop(f"the ROS clock jumped ahead by {ahead_s:.1f} s")
        self._last_ros_ns = now.ros_ns

    def _excuse_overrun(self, now: Now) -> bool:
        """Whether this tick came so late that ages say nothing about the others.

        Messages that arrived while this process did not run are handled after this tick and
        before the next, so only one tick in a row is excused. A stall of its own that lasts is a
        fault too: the arm stood still on an old command, and must not chase the present one.
        """
        late_s = now.steady_s - (self._last_tick_s or now.steady_s)
        self._last_tick_s = now.steady_s
        if late_s > OVERRUN_STOP_S:
            self.stop(f"the control loop stood still for {late_s:.2f} s")
        late = late_s > OVERRUN_PERIODS / self.contract.command_rate_hz
        self._excused = late and not self._excused
        return self._excused

    def _count(self, command: FloatArray) -> FloatArray:
        self.commands += 1
        return command

    def _watch(self, now: Now) -> None:
        """End what has lost its grounds; each reason names the stream."""
        if self.mode in SENDING or self._fault_of == "joint states":
            untrue = next(filter(None, (source.fault(now) for source in self.sources)), "")
            if untrue:
                remedy = "stop the other publisher or mend its stamps, then call ~/clear_fault"
                self._fault("joint states", untrue, remedy)
        sent = self.sent if self.mode in SENDING else None
        if left := self.following.fault(sent, self.joints.measured, now):
            self._fault("following", left, "see what holds the robot, then call ~/clear_fault")
        if self.mode not in MOVING:
            return
        fault = self._grounds(now)
        if self.mode is Mode.HUMAN:
            fault = fault or self.human.fault(now.age_s)
        elif not fault:
            if self.mode is Mode.POLICY:
                fault = self.heartbeat.silence(now) or self.policy.fault(now.ros_ns)
            if not fault and self.lease.expired(now):
                fault = LEASE_EXPIRED
        if fault:
            self.stop(fault)

    def _follow_human(self, now: Now) -> None:
        if self.mode is Mode.HUMAN:
            if self.human.released():
                self.release(now)
        elif self.mode in SENDING:
            source, why = self.human.asks(now.age_s)
            if source:
                self.take_over(now, source, why)

    def _follow_lease(self, now: Now) -> None:
        lease = self.lease
        if lease.expired(now) or lease.mode is self.mode or self.mode is Mode.HUMAN:
            return
        if lease.mode not in (Mode.POLICY, Mode.RESET) or self.modes.resume_required:
            return
        if self.mode in MOVING:
            self.modes.fire(Event.RELEASE, "the supervisor asked for another motion")
        if self.mode is not Mode.HOLD or self.gate.moving:  # a motion begins at rest
            return
        fault = self._grounds(now)
        fault = fault or self._jump(self.sent)
        if lease.mode is Mode.POLICY:
            self._start_policy(now, fault or self.heartbeat.silence(now))
        elif self._finished != (lease.holder, lease.request):
            self._start_reset(now, fault)

    def _start_policy(self, now: Now, fault: str) -> None:
        if fault:
            self.modes.reason, self.modes.remedy = f"waiting to start: {fault}", ""
        elif self.modes.fire(Event.START_POLICY, "policy in control"):
            self._begin_epoch(now)

    def _start_reset(self, now: Now, fault: str) -> None:
        reset, remedy = self.contract.reset, ""
        if reset is None:
            fault = "the contract has no 'reset' pose"
        confirmed = self._confirmed == (self.lease.holder, self.lease.request)
        if not fault and reset and reset.confirm and not confirmed:
            fault, remedy = "a reset motion needs a confirmation", CONFIRM
        if fault or reset is None:
            self.modes.reason, self.modes.remedy = f"waiting to reset: {fault}", remedy
        elif self.modes.fire(Event.START_RESET, "moving to the reset pose"):
            self.reset.begin(self._place(), now.ros_ns)

    def _begin_epoch(self, now: Now) -> None:
        """From now on another source leads: no chunk observed before counts."""
        self.epoch += 1
        self.policy.begin(self.epoch, now.ros_ns)
        self._handover = None

    # Targets ----------------------------------------------------------------------------------

    def _target(self, now: Now) -> FloatArray | None:
        if self.mode is Mode.RESET:
            return self._reset_target(now)
        return self._human_target(now) if self.mode is Mode.HUMAN else self._policy_target(now)

    def _policy_target(self, now: Now) -> FloatArray | None:
        command = self.policy.target(now.ros_ns)
        if command is None:
            return None
        if self._handover is None:
            jump = self._jump(command)
            if jump:
                self.stop(f"first command refused: {jump}")
                return None
            rate = np.zeros_like(self.sent) if self.by_velocity else self.gate.velocity
            self._handover = self._begin_handover(self.sent, rate, self.contract.handover_s)
        rate = np.zeros_like(command)
        if not self._handover.begun:
            rate = self.policy.rate(command, now.ros_ns)
        return self._handover.apply(command, rate, now.ros_ns)

    def _human_target(self, now: Now) -> FloatArray | None:
        place = self._place()
        command, begins = self.human.target(place, now.age_s)
        if begins:
            # A leader far away is met at half the arm's speed, however long that takes.
            distance = self.space.distances(self.space.minus(command, place))
            slowest_s = float((2 * PEAK_SPEED * distance / self.contract.limits.velocity).max())
            duration_s = max(self.contract.handover_s, slowest_s)
            self._handover = self._begin_handover(place, self.gate.velocity, duration_s)
            self._followed = place
        if self._handover is None:
            return None
        position = self._handover.apply(command, np.zeros_like(command), now.ros_ns)
        return self._speed_to(position) if self.by_velocity else position

    def _speed_to(self, position: FloatArray) -> FloatArray:
        """Velocity (A,) by which the measured joints follow a person's positions (A,).

        How fast these go, and what the joints are behind: as of a reset motion.
        """
        speed = (position - self._followed) * self.contract.command_rate_hz
        self._followed = position
        return speed + RESET_GAIN_HZ * (position - self._place())

    def _begin_handover(self, sent: FloatArray, rate: FloatArray, duration_s: float) -> Handover:
        """From the last command, or where the arm is, which changes at `rate`, (A,) each."""
        # Its first command is due one period after the last one, which went on meanwhile.
        due = self.space.plus(sent, rate / self.contract.command_rate_hz)
        return Handover(due, rate, duration_s, self.space)

    def _reset_target(self, now: Now) -> FloatArray | None:
        command, reached = self.reset.target(self._place(), now.ros_ns)
        if reached:
            self._finished = (self.lease.holder, self.lease.request)
            self.modes.fire(Event.RESET_DONE, "reset pose reached")
        return command

    # Checks -----------------------------------------------------------------------------------

    def _grounds(self, now: Now) -> str:
        """Why the arm must not move, whoever leads, or an empty string."""
        return self.joints.fault(now) or self.unready

    def _place(self) -> FloatArray:
        """Where the arm is: as commanded, or as measured where velocities are commanded."""
        if not self.by_velocity:
            return self.sent
        assert self.joints.measured is not None
        return self.joints.measured

    def _jump(self, command: FloatArray) -> str:
        """Why a first command is too far from the measured joints, or an empty string."""
        assert self.joints.measured is not None
        if self.by_velocity:
            return ""
        return start_jump(command, self.joints.measured, self.contract)

    def _answer(self, ok: bool, reason: str) -> Answer:
        return Answer(ok, self.mode, reason)
