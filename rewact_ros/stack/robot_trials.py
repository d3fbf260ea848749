"""The trials of a blinded comparison on a robot that runs: swap, scene, task, verdict.

The robot's policy node takes each trial's checkpoint by the ordinary update, between episodes, from
a copy that only the trial's code names. Also where the same version comes twice in a row: what the
robot does before a trial tells nothing. A person arms the robot, not this.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rcl_interfaces.srv import GetParameters

from rewact_ros.control.modes import Mode
from rewact_ros.policy.blinded import stage_blinded
from rewact_ros.policy.checkpoint_files import CheckpointFiles
from rewact_ros.ros.swap_client import SwapClient, update_for
from rewact_ros.stack.commander import ANSWER_S, Commander, StackError
from rewact_ros.stack.node_thread import LOOK_S, poll
from rewact_ros.stack.task import Task, TaskResult
from rewact_ros.stack.trial_desk import KEYS_HELP, Desk
from rewact_ros.supervision.verdict import Outcome, Termination
from rewact_ros.text import printable
from rewact_ros.trials.journal import Result
from rewact_ros.trials.settings import TrialSettings
from rewact_ros.trials.study import Study, StudyError, Trial

SWAP_S = 300.0  # a slow machine exports an engine for minutes
FOUND_S = 3.0  # until a node that is there has been found
_REASON = 200  # characters of a verdict's reason that are kept


class RobotTrials:
    """Drives trials by a commander; call it with each.

    Args:
        robot: connected, to a robot that runs already.
        namespace: of the robot, whose policy is asked for checkpoints.
        checkpoints: of the versions, in their order.
        place: folder for the copies, below the policy's `policy_dir`.
        text: the task in words, the same in every trial.
        settings: who judges, and how scenes repeat.
        desk: where the operator stands; None: nobody is there.
    """

    def __init__(
        self,
        robot: Commander,
        namespace: str,
        checkpoints: Sequence[CheckpointFiles],
        place: Path,
        text: str,
        settings: TrialSettings,
        desk: Desk | None,
    ) -> None:
        self._robot, self._namespace, self._checkpoints = robot, namespace, checkpoints
        self._staged = [files.sha256 for files in checkpoints]
        self._place, self._text, self._settings, self._desk = place, text, settings, desk

    def try_all(self, study: Study) -> None:
        """Let the policy take every version once, so that none is refused in mid-study.

        Raises:
            SwapError: it takes one of them not.
        """
        for trial in study.block(0):
            self._take(trial.version, f"try-{trial.slot}")

    def __call__(self, trial: Trial) -> Result:
        """Drive a trial.

        Raises:
            KeyboardInterrupt: the operator pauses.
            StackError, SwapError: the robot refused, or does not answer.
        """
        version = self._take(trial.version, trial.code)
        self._await_scene(trial)
        if self._runs() != version:  # it died meanwhile, and came back as what it was started with
            version = self._take(trial.version, trial.code)
        task = self._robot.start(self._text, self._settings.run_time_s)
        verdict = self._watch(task)
        result = self._result(task.result(), verdict)
        if self._runs() != version:
            why = "another policy ran: it was started anew, or the task's text chose one"
            return Result(None, None, {**result.about, "reason": why})
        return result

    def close(self) -> None:
        """Leave no copy behind; the policy that runs has its own in memory."""
        shutil.rmtree(self._place, ignore_errors=True)
        for version, files in enumerate(self._checkpoints):
            self._carry_export(version, files.sha256)

    def _take(self, version: int, code: str) -> str:
        """Let the policy run a version under a code; returns what it calls that version."""
        folder = stage_blinded(self._checkpoints[version], self._place, code)
        update = update_for(folder, time.time_ns())
        self._carry_export(version, update.sha256)
        swap = SwapClient(self._namespace)  # a new one: it keeps what it heard last
        try:
            if swap.version(ANSWER_S) != update.version:  # it is, where the trial was lost
                swap.swap(update, SWAP_S, lambda line: None)
        finally:
            swap.close()
        for other in self._place.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        robot = self._robot
        robot.wait(
            lambda: (
                self._runs() == update.version and robot.policy is not None and robot.policy.ready
            ),
            SWAP_S,
            "policy after the swap",
        )
        return update.version

    def _runs(self) -> str:
        """Version that the policy last said it runs."""
        policy = self._robot.policy
        return str(policy.policy_version) if policy is not None else ""

    def _carry_export(self, version: int, sha256: str) -> None:
        """Spare the policy an export at each trial: it takes it from the user's cache."""
        before, self._staged[version] = self._staged[version], sha256
        with contextlib.suppress(ImportError):  # no torch here: the policy's host exports
            from rewact_ros.policy.export import carry_export, discard_export

            if before != sha256:
                carry_export(before, sha256)
            if before not in (sha256, self._checkpoints[version].sha256):
                discard_export(before)

    def _await_scene(self, trial: Trial) -> None:
        """Wait until the operator has set the scene and the arm may move."""
        desk = self._desk
        if desk is None:
            return
        scenes = self._settings.scenes
        same = f"scene {trial.block % scenes + 1} of {scenes}" if scenes else "a scene"
        again = "the scene of this block again" if trial.slot else f"{same}, for the whole block"
        desk.say(f"set {again}, then s")
        while True:
            while self._pressed() != "start":
                self._robot.pause(LOOK_S)
            if self._robot.mode is Mode.HOLD and not self._robot.resume_required:
                return
            control = self._robot.control
            why = f"{control.reason}; {control.remedy}" if control else "hil is silent"
            desk.say(f"not ready: {printable(why)}; then s")

    def _watch(self, task: Task) -> str:
        """Let the task run to its end; a person's verdict ends it."""
        said = ""
        while task.running:
            self._robot.pause(LOOK_S)
            key = self._pressed()
            if self._by_person and not said and key in ("success", "failure"):
                # An episode that has just ended by itself refuses; the key is the verdict anyway.
                with contextlib.suppress(StackError):
                    self._robot.trigger(f"supervisor/{key}")
                said = key
        return said

    def _result(self, end: TaskResult, said: str) -> Result:
        outcome = end.outcome
        person = end.reason.startswith(f"{Termination.HUMAN}:")
        if self._by_person and not person:
            outcome, person = self._ask(end, said), True
        progress = end.reward
        about = {
            "by": "person" if person else "supervisor",
            "reason": printable(end.reason, _REASON),
            "duration_s": end.duration_s if math.isfinite(end.duration_s) else 0.0,
            "episode": printable(end.episode_id, _REASON),
            "bag": printable(end.bag),
        }
        if progress is not None and math.isfinite(progress):
            about["progress"] = progress
        if outcome is Outcome.UNLABELLED:
            return Result(None, None, about)
        success = outcome is Outcome.SUCCESS
        if not self._settings.partial or success:
            return Result(float(success), success, about)
        if "progress" not in about:
            return Result(None, None, {**about, "reason": "no current progress at the end"})
        return Result(min(max(float(progress or 0.0), 0.0), 1.0), success, about)

    def _ask(self, end: TaskResult, said: str) -> Outcome:
        """The person's verdict on an episode that ended by itself; what was pressed counts."""
        assert self._desk is not None  # a person judges only where one is
        if not said:
            self._desk.say(f"it ended ({printable(end.reason, _REASON)}): y, n or r?")
        while said not in ("success", "failure", "repeat"):
            self._robot.pause(LOOK_S)
            said = self._pressed()
        return {"success": Outcome.SUCCESS, "failure": Outcome.FAILURE}.get(
            said, Outcome.UNLABELLED
        )

    @property
    def _by_person(self) -> bool:
        return self._settings.judge == "person"

    def _pressed(self) -> str:
        return self._desk.pressed() if self._desk is not None else ""


@contextlib.contextmanager
def robot_trials(
    study: Study,
    checkpoints: Sequence[CheckpointFiles],
    name: str,
    namespace: str,
    text: str,
    settings: TrialSettings,
    desk: Desk | None,
) -> Iterator[Callable[[Trial], Result]]:
    """Give what drives a trial on the robot that runs in this ROS domain; rclpy is initialised.

    Args:
        study: as it was begun.
        checkpoints: of the versions, in their order.
        name: of the study, for the folder of copies.
        namespace: of the robot.
        text: the task in words, the same in every trial.
        settings: who judges, and how scenes repeat.
        desk: where the operator stands; None: nobody is there.

    Raises:
        StudyError: nobody sets the scene, or nothing gives one progress for all.
        StackError: no such robot.
        SwapError: its policy takes no updates, or not one of the versions.
    """
    with Commander(namespace=namespace) as robot:
        robot.wait_until_ready(ANSWER_S)
        _require_reset(robot, desk)
        if settings.partial:
            _require_judge(robot)
        directory = _parameter(robot, "policy", "policy_dir")
        if not directory:
            raise StudyError(
                "policy: policy_dir: expected a directory from which the policy takes checkpoints, "
                "got none; bring the robot up with that parameter (docs/comparisons.md)"
            )
        place = Path(directory).resolve() / f"blinded-{name}"
        drive = RobotTrials(robot, namespace, checkpoints, place, text, settings, desk)
        try:
            drive.try_all(study)
            if desk is not None:
                desk.say(KEYS_HELP)
            yield drive
        finally:
            drive.close()


def _require_reset(robot: Commander, desk: Desk | None) -> None:
    """Refuse to go on alone where no one sets the scene: later trials would meet what is left."""
    if desk is None and not _parameter(robot, "supervisor", "reset_service"):
        raise StudyError(
            "supervisor: reset_service: expected a service that sets the scene, for --unattended, "
            "got none; name one, or run in a terminal and set the scene by hand"
        )


def _require_judge(robot: Commander) -> None:
    """Refuse progress of each policy's own head: a proud one would win."""
    node = robot.node
    judge = f"{node.get_namespace().rstrip('/')}/judge"
    if not poll(lambda: judge in node.get_fully_qualified_node_names(), FOUND_S):
        raise StudyError(
            "--partial: expected one judge of all versions' progress, got each policy's own; bring "
            "the robot up with --judge CHECKPOINT, or leave --partial out"
        )


def _parameter(robot: Commander, node: str, name: str) -> str:
    """A text parameter of a node of the robot."""
    client = robot.node.create_client(GetParameters, f"{node}/get_parameters")
    robot.wait(client.service_is_ready, ANSWER_S, f"node {node}")
    answer = client.call_async(GetParameters.Request(names=[name]))
    robot.wait(answer.done, ANSWER_S, f"parameter {name} of {node}")
    values = answer.result().values
    return str(values[0].string_value) if values else ""
