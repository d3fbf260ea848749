"""What a person's devices ask for: who takes over, from which device, and to which command."""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import SampleError, select_joints
from rewact_ros.contract.schema import Contract, TeleopSource
from rewact_ros.control.limits import outside_limits
from rewact_ros.control.space import Space
from rewact_ros.control.watch import Freshness

FloatArray = NDArray[np.float64]
MOTION_WINDOW_S = 1.0  # a leader that drifts more slowly than its threshold per window is at rest
# Gliding between two messages lags the hand by their interval; it is not to lag by more than this.
LONGEST_SMOOTHING_S = 0.1
# No hand outruns the arm's own velocity limit by more than this: an encoder that wraps does, and a
# driver that comes back with another zero. Messages also come in bursts, hence the shortest time;
# no hand keeps such a speed up, hence the longest: beyond it the hand is as fast as the arm, which
# targets that stand at the arm need. Fingers, triggers and buttons do at once what the contract's
# `max_start_jump` allows.
OUTRUN = 5.0
SHORTEST_STEP_S, LONGEST_STEP_S = 0.02, 0.1
# A device that stepped must go on without another step for this long before it leads.
DISTRUST_S = 1.0


class TeleopInput:
    """One device: its newest target, whether it can be believed, and whether its deadman is held.

    Args:
        source: the device in the contract.
        contract: for the order and the limits of the joints.

    Attributes:
        space: what differences of its targets mean.
    """

    space = Space()

    def __init__(self, source: TeleopSource, contract: Contract) -> None:
        self.source = source
        limits, names = contract.limits, contract.action_names
        self.joints = np.array([names.index(joint) for joint in source.joints], dtype=np.intp)
        self._scale, self._offset = np.array(source.scale), np.array(source.offset)
        self._speed = limits.velocity[self.joints]
        self._at_once = limits.start_jump[self.joints]
        nothing = f"no message received yet on {source.topic} ({source.type})"
        self._fresh = Freshness(source.topic, source.max_age_s, nothing)
        self._step, self._stepped_s = "", -np.inf
        self._deadman_s = -np.inf
        self._pressed = self._was_released = False
        self._newest: FloatArray | None = None
        self._before: FloatArray | None = None
        self._interval_s = 0.0
        self._recent: deque[tuple[float, FloatArray]] = deque()

    # Messages ---------------------------------------------------------------------------------

    def on_values(self, names: Sequence[str], values: Sequence[float], received_s: float) -> None:
        """Take a message of positions by joint name; see `Freshness` for an unusable one."""
        try:
            picked = select_joints(names, values, self.source.source_joints, self.source.topic)
        except SampleError as error:
            self.refuse(str(error))
            return
        self.take(self._scale * picked + self._offset, received_s)

    def take(self, target: FloatArray, received_s: float) -> None:
        """Take a target (M,) of the device's joints."""
        gap_s = received_s - self._fresh.received_s
        step = self._judge_step(target, received_s)
        if step:
            self._step, self._stepped_s = step, received_s
            self._recent.clear()
        # Between two messages the command glides, or a 50 Hz device would jerk a 100 Hz stream.
        self._before = self.at(received_s)
        self._interval_s = gap_s if gap_s <= LONGEST_SMOOTHING_S else 0.0
        self._newest = target
        self._fresh.take(received_s)
        self._recent.append((received_s, target))
        while received_s - self._recent[0][0] > MOTION_WINDOW_S:
            self._recent.popleft()

    def refuse(self, reason: str) -> None:
        """Take note of a message that carries no usable positions."""
        self._fresh.take_fault(reason)

    def _judge_step(self, target: FloatArray, received_s: float) -> str:
        """Why no hand moved the device to this target (M,), or an empty string.

        Against the last message, for a jump; and against a tenth of a second ago, for a jump that
        a filter or a short ramp spreads over several messages.
        """
        if self._newest is None:
            return ""
        compared = [(self._fresh.received_s, self._newest)]
        for earlier in reversed(self._recent):
            if received_s - earlier[0] > LONGEST_STEP_S:
                break
            compared[1:] = [earlier]
        for then_s, before in compared:
            elapsed_s = min(max(received_s - then_s, SHORTEST_STEP_S), self.source.max_age_s)
            quick_s = min(elapsed_s, LONGEST_STEP_S)
            reach = self._speed * (OUTRUN * quick_s + elapsed_s - quick_s)
            allowed = np.maximum(self._at_once, reach)
            moved = self.space.distances(self.space.minus(target, before))
            j = int(np.argmax(moved - allowed))
            if moved[j] > allowed[j]:
                return (
                    f"{self.source.joints[j]} stepped from {before[j]:.3f} to {target[j]:.3f}, and "
                    f"no hand moves it by more than {allowed[j]:.3f} at once: an encoder that "
                    "wraps, a driver that restarted, or a second publisher"
                )
        return ""

    def on_buttons(self, buttons: Sequence[int], received_s: float) -> None:
        """Take a Joy message; without the deadman's button it is another device's."""
        deadman = self.source.deadman
        if deadman is not None and deadman.button < len(buttons):
            self.on_deadman(buttons[deadman.button] == 1, received_s)

    def on_deadman(self, pressed: bool, received_s: float) -> None:
        """Take the state of the deadman button; after a silence it must be seen up again."""
        heard = not self.deadman_silence(received_s)
        self._was_released = not pressed or (self._was_released and heard)
        self._pressed, self._deadman_s = pressed, received_s

    def forget_motion(self) -> None:
        """Where the leader is now is its rest, and a button that is down asks for nothing new."""
        self._recent.clear()
        self._was_released = not self._pressed

    # State ------------------------------------------------------------------------------------

    def fault(self, now_s: float) -> str:
        """Why the device cannot lead, or an empty string."""
        fault = self._fresh.fault(now_s)
        if not fault and self._distrusted(now_s):
            fault = self._step
        return f"teleop {self.source.name}: {fault}" if fault else self.deadman_silence(now_s)

    def _distrusted(self, now_s: float) -> bool:
        return now_s - self._stepped_s < DISTRUST_S

    def deadman_silence(self, now_s: float) -> str:
        """Why the deadman says nothing about the person, or an empty string."""
        deadman = self.source.deadman
        if deadman is None or now_s - self._deadman_s <= deadman.max_age_s:
            return ""
        return (
            f"teleop {self.source.name}: deadman on {deadman.topic} is silent, no message with a "
            f"button {deadman.button} for {deadman.max_age_s:g} s"
        )

    @property
    def pressed(self) -> bool:
        """Whether the deadman was down in its last message."""
        return self._pressed

    @property
    def held(self) -> bool:
        """Whether a person holds the deadman down: it was seen up before."""
        return self._pressed and self._was_released

    def may_move(self) -> bool:
        """Whether the person lets the arm follow: no deadman, or it is held."""
        return self.source.deadman is None or self.held

    def asks(self, now_s: float) -> str:
        """Why the device asks to take over, or an empty string."""
        if self.fault(now_s):
            return ""
        if self.source.deadman and self.held:
            return "deadman pressed"
        limit = self.source.takeover_motion
        if limit is not None and self.may_move() and self._recent:
            moved = np.abs(self._recent[-1][1] - self._recent[0][1])
            if moved.max() > limit:
                return f"{self.source.joints[int(moved.argmax())]} of the leader moved"
        return ""

    def at(self, now_s: float) -> FloatArray | None:
        """Target (M,) of the device's joints, gliding from the last message to the newest.

        None before the first, and while a step leaves open where the device is.
        """
        if self._distrusted(now_s):
            return None
        if self._newest is None or self._before is None or self._interval_s <= 0.0:
            return self._newest
        share = min(max((now_s - self._fresh.received_s) / self._interval_s, 0.0), 1.0)
        way = self.space.minus(self._newest, self._before)
        return self.space.plus(self._before, share * way)

    def relation(self, position: FloatArray, values: FloatArray) -> FloatArray:
        """What stays the same from the takeover on, between the robot and the device.

        Args:
            position: (M,) of the device's joints in the last command.
            values: (M,) of the device then.
        """
        keeps = self.source.align == "offset"
        return position - values if keeps else np.zeros_like(values)

    def lead(
        self, values: FloatArray, relation: FloatArray, position: FloatArray, now_s: float
    ) -> FloatArray:
        """Command (M,) of the device's joints, by what `relation` said at the takeover.

        Args:
            position: (M,) of the last command.
            now_s: on the age clock.
        """
        return values + relation


MakeInput = Callable[[TeleopSource, Contract], TeleopInput]


class HumanControl:
    """Chooses the device that leads and turns its targets into commands.

    With `align: offset` the command is the device's plus the difference at the takeover, which
    stays; pressing the deadman again takes a new difference, so that a person can reach further.
    With `ramp` there is no difference, and the caller's handover leads the arm there.
    """

    def __init__(self, contract: Contract, make: MakeInput = TeleopInput) -> None:
        self._contract = contract
        self.inputs = {source.name: make(source, contract) for source in contract.teleop}
        self.active: TeleopInput | None = None
        self.by_deadman = False
        self._held: FloatArray | None = None
        self._difference: FloatArray | None = None

    def pressed(self, now_s: float) -> str:
        """Name of a device that says its deadman is down, or an empty string."""
        for name, device in self.inputs.items():
            if device.pressed and not device.deadman_silence(now_s):
                return name
        return ""

    def unheeded(self, now_s: float) -> str:
        """Why a deadman that is down gives nobody the arm, or an empty string.

        A person who presses in vain must hear why, or presses harder.
        """
        name = self.pressed(now_s)
        device = self.inputs.get(name)
        if device is None:
            return ""
        if not device.held:
            return (
                f"teleop {name}: the deadman is down and was not seen up before; let it go and "
                "press it again"
            )
        fault = device.fault(now_s)
        return f"the deadman is pressed in vain: {fault}" if fault else ""

    def asks(self, now_s: float) -> tuple[str, str]:
        """(device, why) that asks to take over, or two empty strings."""
        for name, device in self.inputs.items():
            why = device.asks(now_s)
            if why:
                return name, why
        return "", ""

    def refusal(self, name: str, now_s: float) -> str:
        """Why a device (empty: any) cannot take over, or an empty string."""
        if not self.inputs:
            return "the contract names no teleop source"
        if name and name not in self.inputs:
            return f"teleop {name}: no such source; the contract has {', '.join(self.inputs)}"
        devices = [self.inputs[name]] if name else list(self.inputs.values())
        unfit = [self._unfit(device, now_s) for device in devices]
        return "" if "" in unfit else unfit[0]

    def _unfit(self, device: TeleopInput, now_s: float) -> str:
        """Why a device cannot take over: lost, or it would lead out of limits."""
        name = f"teleop {device.source.name}"
        fault, target = device.fault(now_s), device.at(now_s)
        if fault or target is None or device.source.align == "offset":
            return fault
        reached = self._contract.limits.low.copy()  # inside, for the joints that it does not lead
        reached[device.joints] = target
        outside = outside_limits(reached, self._contract)
        return f"{name}: {outside}" if outside else ""

    def engage(self, name: str, position: FloatArray, now_s: float) -> str:
        """Let a device (empty: the first that can) lead from `position` (A,); returns its name."""
        self.active = next(
            device
            for key, device in self.inputs.items()
            if name in ("", key) and not self._unfit(device, now_s)
        )
        self.by_deadman = bool(self.active.source.deadman and self.active.held)
        self._hold(position)
        return self.active.source.name

    def disengage(self) -> None:
        """Nobody leads; where the devices are now is their rest."""
        self.active = None
        for device in self.inputs.values():
            device.forget_motion()

    def fault(self, now_s: float) -> str:
        """Why the leading device is lost, or an empty string."""
        return self.active.fault(now_s) if self.active else ""

    def released(self) -> bool:
        """Whether the deadman that took over has been let go."""
        return self.by_deadman and self.active is not None and not self.active.pressed

    def target(self, position: FloatArray, now_s: float) -> tuple[FloatArray, bool]:
        """Command of the leading device, and whether it begins to lead with it.

        Args:
            position: (A,) where the robot is: as commanded, or as measured where velocities are.
            now_s: on the age clock.

        Returns:
            (A,) command, in which joints that the device does not name stay; True on the first
            tick of a takeover and of every new press of the deadman.
        """
        assert self.active is not None and self._held is not None
        values = self.active.at(now_s)
        if values is None or not self.active.may_move():
            if self._difference is not None:
                self._hold(position)
            return self._held, False
        joints, begins = self.active.joints, self._difference is None
        if begins:
            self._hold(position)
            self._difference = self.active.relation(position[joints], values)
        assert self._difference is not None
        target = self._held.copy()
        target[joints] = self.active.lead(values, self._difference, position[joints], now_s)
        return target, begins

    def _hold(self, position: FloatArray) -> None:
        self._held = position.copy()
        self._difference = None
