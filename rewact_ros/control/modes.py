"""Modes of the command path as one transition table; nothing else changes a mode."""

from enum import Enum, IntEnum


class Mode(IntEnum):
    """Same numbers as `rewact_ros/msg/ControlStatus`."""

    DISARMED = 0
    HOLD = 1
    POLICY = 2
    HUMAN = 3
    RESET = 4
    FAULT = 5


def mode_name(number: int) -> str:
    """Name of a mode, or its number: a message may hold any."""
    return Mode(number).name if number in set(Mode) else f"mode {number}"


class Event(Enum):
    """What may change a mode."""

    ARM = "arm"
    DISARM = "disarm"
    START_POLICY = "start_policy"
    START_RESET = "start_reset"
    RESET_DONE = "reset_done"
    RELEASE = "release"
    TAKE_OVER = "take_over"
    STOP = "stop"
    FAULT = "fault"
    CLEAR_FAULT = "clear_fault"


SENDING = frozenset({Mode.HOLD, Mode.POLICY, Mode.HUMAN, Mode.RESET})
MOVING = frozenset({Mode.POLICY, Mode.HUMAN, Mode.RESET})

TRANSITIONS: dict[tuple[Mode, Event], Mode] = {
    (Mode.DISARMED, Event.ARM): Mode.HOLD,
    (Mode.HOLD, Event.START_POLICY): Mode.POLICY,
    (Mode.HOLD, Event.START_RESET): Mode.RESET,
    (Mode.RESET, Event.RESET_DONE): Mode.HOLD,
    **{(mode, Event.TAKE_OVER): Mode.HUMAN for mode in (Mode.HOLD, Mode.POLICY, Mode.RESET)},
    # RELEASE: the supervisor or the person is done. STOP: a watchdog or a lost lease ended it.
    **{(mode, Event.RELEASE): Mode.HOLD for mode in MOVING},
    **{(mode, Event.STOP): Mode.HOLD for mode in MOVING},
    **{(mode, Event.DISARM): Mode.DISARMED for mode in SENDING},
    **{(mode, Event.FAULT): Mode.FAULT for mode in SENDING},
    (Mode.FAULT, Event.CLEAR_FAULT): Mode.DISARMED,
}


class ModeMachine:
    """Current mode with its reason; a STOP latches until `resume`.

    `resume_required` is part of the state: a HOLD that a watchdog entered is left only by a
    person, so a policy that comes back never moves the arm by itself. Nothing but `resume` lifts
    it: neither a takeover and its release, nor disarming, nor a fault that is cleared. `cause` is
    what brought the present mode; None: nothing yet, or a resume since.
    """

    def __init__(self) -> None:
        self.mode = Mode.DISARMED
        self.cause: Event | None = None
        self.reason = "started"
        self.remedy = "arm when the workspace is clear"
        self.resume_required = False

    def fire(self, event: Event, reason: str, remedy: str = "", latch: bool = False) -> bool:
        """Apply an event; returns False, changing nothing, where the table has no such edge.

        With `latch`, the mode it leads to asks for `resume` as after a STOP.
        """
        target = TRANSITIONS.get((self.mode, event))
        if target is None:
            return False
        starts = event in (Event.START_POLICY, Event.START_RESET)
        if starts and self.resume_required:
            return False
        if event is Event.STOP or latch:
            self.resume_required = True
        self.mode, self.cause, self.reason, self.remedy = target, event, reason, remedy
        return True

    @staticmethod
    def diagram() -> str:
        """The table as a Mermaid state diagram."""
        lines = ["stateDiagram-v2", "    [*] --> DISARMED"]
        edges: dict[tuple[Mode, Mode], list[str]] = {}
        for (mode, event), target in TRANSITIONS.items():
            edges.setdefault((mode, target), []).append(event.value)
        for (mode, target), events in edges.items():
            lines.append(f"    {mode.name} --> {target.name}: {', '.join(sorted(events))}")
        return "\n".join(lines)

    def resume(self) -> None:
        """Lift the latch of a watchdog stop."""
        if self.resume_required:
            self.resume_required, self.cause = False, None
            self.reason, self.remedy = "resumed", ""
