"""What an operator may ask of a robot: one row per button, with the words for why it cannot be now.

A button is a `std_srvs/Trigger` of a node. That the node itself may refuse stays true: a row only
says beforehand what is known, so that nobody presses in vain.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rewact_ros.control.modes import SENDING, Mode
from rewact_ros.data.bags.recorder_setup import ACTIONS
from rewact_ros.stack.robot_status import RobotStatus

# Phases of the supervisor in which an episode is there to be judged.
JUDGED = ("resetting", "scene", "running", "help")


@dataclass(frozen=True)
class Button:
    """One thing to ask for.

    Attributes:
        name: of the button, and of the call that the page makes.
        service: relative name.
        label: on the page.
        why_not: (status) → why it cannot be pressed; "": it can.
    """

    name: str
    service: str
    label: str
    why_not: Callable[[RobotStatus], str]


def _hil(rule: Callable[[RobotStatus], str]) -> Callable[[RobotStatus], str]:
    return lambda status: rule(status) if status.mode else "hil is silent"


def _mode(status: RobotStatus, modes: frozenset[Mode] | tuple[Mode, ...], else_: str) -> str:
    return "" if status.mode in {mode.name for mode in modes} else else_


def _arm(status: RobotStatus) -> str:
    if status.mode == Mode.FAULT.name:
        return "in FAULT: clear it first"
    return _mode(status, (Mode.DISARMED,), "armed already")


def _disarm(status: RobotStatus) -> str:
    return _mode(status, SENDING, "not armed")


def _resume(status: RobotStatus) -> str:
    return "" if status.resume_required else "nothing waits for it: no watchdog stopped the arm"


def _clear_fault(status: RobotStatus) -> str:
    return _mode(status, (Mode.FAULT,), "no fault")


def _take_over(status: RobotStatus) -> str:
    if status.mode == Mode.HUMAN.name:
        return f"a person leads already ({status.leads})"
    return _mode(status, (Mode.HOLD, Mode.POLICY, Mode.RESET), "not armed")


def _release(status: RobotStatus) -> str:
    return _mode(status, (Mode.HUMAN,), "no person leads")


def _confirm_reset(status: RobotStatus) -> str:
    return "" if "confirm_reset" in status.remedy else "no reset motion waits for it"


def _phase(status: RobotStatus, phases: tuple[str, ...], else_: str) -> str:
    if status.supervisor is None:
        return "no supervisor is heard"
    return "" if status.supervisor.phase in phases else else_


def _judge(status: RobotStatus) -> str:
    """The episode that runs, else the newest one, whose verdict is then another."""
    why = _phase(status, JUDGED, "no episode has run yet")
    return "" if why and status.supervisor and status.last_verdict else why


def _go_on(status: RobotStatus) -> str:
    return _phase(status, ("help",), "no episode asks for help")


def _pause(status: RobotStatus) -> str:
    return _phase(status, JUDGED, "no batch runs")


def _unpause(status: RobotStatus) -> str:
    return _phase(status, ("paused",), "no batch is paused")


def _continue_batch(status: RobotStatus) -> str:
    why = _phase(status, ("idle",), "a task runs")
    if why or status.supervisor is None:
        return why
    return "" if "continue_batch" in status.supervisor.text else "no batch was interrupted"


def _renew_bound(status: RobotStatus) -> str:
    if status.supervisor is None:
        return "no supervisor is heard"
    return "" if "withdrawn" in status.supervisor.bound else "no bound is withdrawn"


def _recorder(action: str) -> Callable[[RobotStatus], str]:
    def why_not(status: RobotStatus) -> str:
        if not status.recorder:
            return "no recorder is heard"
        if action == "start":
            return "records already" if status.recording else ""
        if action in ("stop", "rerecord"):
            return "" if status.recording else "nothing is recorded"
        return "" if status.recording or status.bag else "nothing was recorded yet"

    return why_not


_RECORDER_LABELS = {
    "start": "Record",
    "stop": "Stop recording",
    "success": "Recording: success",
    "failure": "Recording: failure",
    "rerecord": "Record again",
    "discard": "Discard",
}
BUTTONS = (
    Button("arm", "hil/arm", "Arm", _hil(_arm)),
    Button("disarm", "hil/disarm", "Disarm", _hil(_disarm)),
    Button("resume", "hil/resume", "Resume", _hil(_resume)),
    Button("clear_fault", "hil/clear_fault", "Clear fault", _hil(_clear_fault)),
    Button("take_over", "hil/take_over", "Take over", _hil(_take_over)),
    Button("release", "hil/release", "Release", _hil(_release)),
    Button("confirm_reset", "hil/confirm_reset", "Confirm reset", _hil(_confirm_reset)),
    Button("go_on", "supervisor/go_on", "Go on", _go_on),
    Button("pause", "supervisor/pause", "Pause batch", _pause),
    Button("unpause", "supervisor/unpause", "Unpause", _unpause),
    Button("continue_batch", "supervisor/continue_batch", "Continue batch", _continue_batch),
    Button("success", "supervisor/success", "Success", _judge),
    Button("failure", "supervisor/failure", "Failure", _judge),
    Button("renew_bound", "supervisor/renew_bound", "Renew bound", _renew_bound),
    *(
        Button(f"record_{action}", f"recorder/{action}", _RECORDER_LABELS[action], why)
        for action, why in ((action, _recorder(action)) for action in ACTIONS)
    ),
)
