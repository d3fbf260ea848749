"""A blinded comparison on a robot: what swaps, what is asked of the operator, what tells a name."""

import os
import pty
import time
from dataclasses import replace

import numpy as np
import pytest
import rclpy
import torch
from conftest import run_command, write_policy
from fake_robot import FakeRobot
from rclpy.node import Node
from std_srvs.srv import Trigger
from test_supervisor import CALIBRATION

from rewact_ros.msg import ControlStatus, PolicyStatus, PolicyUpdate
from rewact_ros.policy.blinded import stage_blinded
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.checkpoint_files import CheckpointError, open_folder
from rewact_ros.policy.export import export_file
from rewact_ros.policy.updates import Candidate, PolicyUpdates, Update, UpdateRefused
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.swap_client import SwapError
from rewact_ros.stack.commander import StackError
from rewact_ros.stack.domain import kept_environment, own_domain
from rewact_ros.stack.node_thread import NodeThread
from rewact_ros.stack.robot_trials import RobotTrials, robot_trials
from rewact_ros.stack.trial_desk import at_desk
from rewact_ros.supervision.verdict import Outcome
from rewact_ros.terminal import NoTerminalError
from rewact_ros.trials.settings import TrialSettings
from rewact_ros.trials.study import Study, StudyError, named_versions


@pytest.fixture(scope="module")
def policies(vx300s, tmp_path_factory):
    """Two small checkpoints with names that must not be told."""
    home = tmp_path_factory.mktemp("policies")
    folders = [
        write_policy(vx300s, home / name, dim_feedforward=size)
        for name, size in (("champion", 64), ("underdog", 32))
    ]
    (folders[0] / "README.md").write_text("the champion")
    return folders


def test_a_staged_checkpoint_predicts_the_same_under_another_version(policies, vx300s, tmp_path):
    files = open_folder(policies[0])
    staged = [open_folder(stage_blinded(files, tmp_path, code)) for code in ("3fa2", "77c1")]
    assert [f.path.name for f in staged] == ["3fa2", "77c1"] and "README.md" not in staged[0]
    assert len({files.version, *(f.version for f in staged)}) == 3
    assert len({files.sha256, *(f.sha256 for f in staged)}) == 3
    rng = np.random.default_rng(0)
    batch = {"observation.state": torch.zeros(1, len(vx300s.state_names))}
    for camera in vx300s.cameras:
        picture = rng.random((1, 3, *camera.shape[:2]), dtype=np.float32)
        batch[camera.key] = torch.from_numpy(picture)
    loaded = [load_policy(f, "cpu") for f in (files, *staged)]
    actions = [one.predict(dict(batch)).actions for one in loaded]
    assert all(torch.equal(actions[0], other) for other in actions[1:])
    assert loaded[1].contract == loaded[0].contract


def test_a_staged_checkpoint_is_spared_the_export_and_leaves_none_behind(
    policies, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = [open_folder(folder) for folder in policies]
    export_file(files[0].sha256).write_bytes(b"a network")
    trials = RobotTrials(None, "", files, tmp_path / "p", "", TrialSettings(), None)
    for code in ("1" * 64, "2" * 64, "2" * 64):  # the last trial was lost, and driven again
        trials._carry_export(0, code)
        assert export_file(code).read_bytes() == b"a network"
        trials._carry_export(1, code[:-1] + "f")  # has none yet
    trials.close()
    assert list(tmp_path.glob("**/*.onnx")) == [export_file(files[0].sha256)]


def test_a_cut_file_is_refused_and_a_lost_trials_copy_is_made_anew(policies, tmp_path):
    files = open_folder(policies[0])
    (tmp_path / "3fa2").mkdir()
    (tmp_path / "3fa2" / "left").touch()
    assert "left" not in open_folder(stage_blinded(files, tmp_path, "3fa2"))
    broken = stage_blinded(files, tmp_path, "cut")
    (broken / "model.safetensors").write_bytes(b"\xff" * 6)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        stage_blinded(open_folder(broken), tmp_path, "again")


class PolicyAlone(Node):
    """Takes checkpoints as the policy node does, and runs none."""

    def __init__(self, context, folder, directory, contract_hash):
        super().__init__("policy", context=context, use_global_arguments=False)
        self.declare_parameter("policy_dir", str(directory))
        files = open_folder(folder)
        self.first = Candidate(folder, files.version, files.sha256), str(directory), contract_hash
        self.restart()
        self.heard, self.refuse, self.reason = [], lambda candidate: "", ""
        self.status = self.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND)
        self.create_subscription(PolicyUpdate, names.POLICY_UPDATE, self.take, names.EVENTS)
        self.create_timer(0.02, self.beat)

    def restart(self):
        """Run what the process was started with, and know of no update."""
        running, directory, contract_hash = self.first
        self.updates = PolicyUpdates(directory, contract_hash, running)

    def take(self, msg):
        update = Update(to_ns(msg.header.stamp), msg.path, msg.sha256, msg.version, msg.robot)
        if self.heard and self.heard[-1] == update:
            return
        self.heard.append(update)
        try:
            candidate = self.updates.judge(update)
        except UpdateRefused as error:
            self.reason = f"{update.label}: refused: {error}"
            return
        if words := self.refuse(candidate):
            self.reason = f"{update.label}: refused: {words}"
            return
        self.updates.taken(candidate)

    def beat(self):
        version = self.updates.running.version
        self.status.publish(PolicyStatus(ready=True, policy_version=version, reason=self.reason))


class Robot(FakeRobot):
    """A fake robot whose person may judge, and whose policy is a node of its own."""

    def __init__(self, context):
        super().__init__(context)
        self._policy = self.create_publisher(PolicyStatus, "unheard", names.COMMAND)
        self.mode, self.tasks, self.detail = ControlStatus.HOLD, [], "timeout: time is up"
        for word in ("success", "failure"):
            self.create_service(
                Trigger, f"supervisor/{word}", lambda _, answer, word=word: self.judge(word, answer)
            )

    def judge(self, word, answer):
        self.verdict, self.detail = Outcome[word.upper()], "human: operator said so"
        answer.success = True
        return answer

    async def _execute(self, goal):
        self.tasks.append(goal.request.task)
        result = await super()._execute(goal)
        result.reason = self.detail
        return result


class Supervisor(Node):
    """Its parameters alone."""

    def __init__(self, context, reset_service):
        super().__init__("supervisor", context=context, use_global_arguments=False)
        self.declare_parameter("reset_service", reset_service)


class Operator:
    """A desk at which keys are pressed when a line asks for them."""

    def __init__(self, answers):
        self.answers, self.said, self.keys = list(answers), [], []

    def say(self, line):
        self.said.append(line)
        if line.startswith(("set ", "it ended", "not ready")):
            self.keys = list(self.answers.pop(0))

    def pressed(self):
        key = self.keys.pop(0) if self.keys else ""
        if key == "pause":
            raise KeyboardInterrupt
        return key


@pytest.fixture
def robot(policies, vx300s):
    """A robot with a policy that takes updates, in a domain of its own."""
    with kept_environment("ROS_DOMAIN_ID"):
        os.environ.pop("ROS_DOMAIN_ID", None)
        lock = own_domain()
        rclpy.init()
        threads = []

        def start(make):
            threads.append(NodeThread(make))
            threads[-1].start()
            return threads[-1].node

        found = start(Robot)
        found.start = start
        found.policy_node = start(
            lambda context: PolicyAlone(context, policies[0], policies[0].parent, vx300s.hash)
        )
        yield found
        for thread in threads:
            thread.close()
        rclpy.shutdown()
        lock.release()


def study_of(policies):
    checkpoints = [open_folder(folder) for folder in policies]
    versions = named_versions([(f.path, f.sha256) for f in checkpoints])
    return Study(versions, 3, {}), checkpoints


def trials(policies, desk, **settings):
    study, checkpoints = study_of(policies)
    asked = TrialSettings(run_time_s=5.0, **settings)
    return robot_trials(study, checkpoints, "lamp", "", "put the cube away", asked, desk)


def test_a_person_judges_trials_of_which_nothing_on_the_wire_tells_the_policy(robot, policies):
    study, checkpoints = study_of(policies)
    robot.verdict = None  # runs until somebody judges
    desk = Operator([["start", "success"], ["start", "failure"], ["start", "success"]])
    block = [*study.block(0), *study.block(1)]
    with trials(policies, desk, scenes=5) as drive:
        results = []
        for trial in block[:3]:
            robot.verdict = None
            results.append(drive(trial))
    assert [r.success for r in results] == [True, False, True]
    assert [r.score for r in results] == [1.0, 0.0, 1.0]
    assert {r.about["by"] for r in results} == {"person"}
    asked = [line for line in desk.said if line.startswith("set ")]
    assert asked == [
        "set scene 1 of 5, for the whole block, then s",
        "set the scene of this block again, then s",
        "set scene 2 of 5, for the whole block, then s",
    ]
    heard = robot.policy_node.heard
    assert len(heard) == 5 and len({u.version for u in heard}) == 5  # each was tried first
    told = " ".join([*desk.said, *robot.tasks, *(f"{u.path} {u.version}" for u in heard)])
    for version, files in zip(study.versions, checkpoints, strict=True):
        for secret in (version.path, version.sha256, files.version):
            assert secret not in told
    assert set(robot.tasks) == {"put the cube away"}
    assert not (policies[0].parent / "blinded-lamp").exists()


def test_an_episode_that_ends_by_itself_is_judged_by_the_person_or_driven_again(robot, policies):
    study, _ = study_of(policies)
    robot.verdict = Outcome.FAILURE
    desk = Operator([["start"], ["success"], ["start"], ["repeat"]])
    with trials(policies, desk) as drive:
        judged, again = drive(study.block(0)[0]), drive(study.block(0)[1])
    assert judged.success and judged.score == 1.0 and judged.about["by"] == "person"
    assert judged.about["reason"].startswith("timeout")
    assert again.score is None and again.success is None


def test_an_arm_that_is_not_ready_is_named_and_the_trial_waits(robot, policies):
    study, _ = study_of(policies)
    robot.mode = ControlStatus.DISARMED
    desk = Operator([["start"], ["pause"]])
    with pytest.raises(KeyboardInterrupt), trials(policies, desk) as drive:
        drive(study.block(0)[0])
    assert "not ready: as told; mend; then s" in desk.said and not robot.tasks


def test_a_person_who_pauses_in_a_trial_ends_the_task(robot, policies):
    study, _ = study_of(policies)
    robot.verdict = None
    with pytest.raises(KeyboardInterrupt), trials(policies, Operator([["start", "pause"]])) as run:
        run(study.block(0)[0])
    deadline_s = time.monotonic() + 5
    while not robot.cancelled and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert robot.cancelled == 1 and "disarm" not in robot.calls  # a person armed it


def test_a_policy_that_is_started_anew_drives_no_trial_as_another_version(robot, policies):
    study, _ = study_of(policies)
    node = robot.policy_node

    class Slow(Operator):
        def say(self, line):
            super().say(line)
            if line.startswith("set a scene"):
                node.restart()
                time.sleep(0.3)  # until its next heartbeat

    robot.verdict = Outcome.FAILURE
    with trials(policies, Slow([["start"], ["failure"], ["start"], ["failure"]])) as drive:
        driven = []
        robot.on_task = lambda: driven.append(node.updates.running.version)
        assert drive(study.block(0)[0]).score == 0.0
        assert driven == [node.heard[-1].version] == [node.heard[-2].version]
        robot.on_task = node.restart
        again = drive(study.block(0)[1])
    assert again.score is None and "started anew" in again.about["reason"]


def test_the_supervisors_verdicts_need_nobody_and_no_verdict_is_none(robot, policies):
    study, _ = study_of(policies)
    robot.start(lambda context: Supervisor(context, "sim/reset"))
    with trials(policies, None, judge="supervisor") as drive:
        results = []
        for outcome, trial in zip(Outcome, [*study.block(0), study.block(1)[0]], strict=True):
            robot.verdict = outcome
            results.append(drive(trial))
    assert [r.score for r in results] == [None, 1.0, 0.0]
    assert {r.about["by"] for r in results} == {"supervisor"}


def test_progress_of_a_common_judge_is_partial_credit(robot, policies):
    study, _ = study_of(policies)
    robot.start(lambda context: Supervisor(context, "sim/reset"))
    with (
        pytest.raises(StudyError, match="expected one judge of all versions' progress"),
        trials(policies, None, judge="supervisor", partial=True),
    ):
        pass
    robot.start(lambda context: Node("judge", context=context, use_global_arguments=False))
    robot.verdict = Outcome.FAILURE
    with trials(policies, None, judge="supervisor", partial=True) as drive:
        failed = drive(study.block(0)[0])
        robot.rewards = False
        time.sleep(0.6)
        unknown = drive(study.block(0)[1])
    assert failed.score == 0.75 and failed.success is False
    assert unknown.score is None and "no current progress" in unknown.about["reason"]


def test_nobody_to_set_the_scene_is_refused(robot, policies):
    robot.start(lambda context: Supervisor(context, ""))
    with (
        pytest.raises(StudyError, match="reset_service: expected a service"),
        trials(policies, None, judge="supervisor"),
    ):
        pass


def test_a_policy_without_updates_or_one_that_refuses_is_named_before_the_first_trial(
    robot, policies
):
    node = robot.policy_node
    node.refuse = lambda candidate: "contract: expected 7 joints"
    with (
        pytest.raises(SwapError, match="contract: expected 7 joints"),
        trials(policies, Operator([])),
    ):
        pass
    node.set_parameters([rclpy.parameter.Parameter("policy_dir", value="")])
    with (
        pytest.raises(StudyError, match="policy_dir: expected a directory"),
        trials(policies, Operator([])),
    ):
        pass
    assert not robot.tasks


def test_the_command_compares_on_a_robot_with_the_judges_errors_folded_in(
    robot, policies, tmp_path, monkeypatch, capsys
):
    def verdict():
        size = open_folder(robot.policy_node.updates.running.folder).json("config.json")
        robot.verdict = Outcome(1 if size["dim_feedforward"] == 64 else 2)

    robot.on_task = verdict
    robot.start(lambda context: Supervisor(context, "sim/reset"))
    replace(CALIBRATION, successes=400, recognised=398).save(tmp_path / "judge.json")
    monkeypatch.chdir(tmp_path)
    rclpy.shutdown()  # the command has its own
    words = ["--robot", "put the cube away", "--unattended", "--judge", "supervisor"]
    words += ["--calibration", tmp_path / "judge.json", "--futility", 0, "--most-blocks", 2]
    assert run_command(monkeypatch, "compare", *policies, *words) == 0
    said = capsys.readouterr().out
    assert "champion: mean score 1.00" in said and "underdog: mean score 0.00" in said
    assert "champion" not in said.split("2 blocks:")[0]
    text = (tmp_path / "runs" / "compare" / "study" / "report.md").read_text()
    assert "Judged by: supervisor. Its errors are folded in" in text
    assert set(robot.tasks) == {"put the cube away"} and len(robot.tasks) == 4
    rclpy.init()


def test_keys_are_taken_one_by_one_and_a_closed_terminal_pauses(monkeypatch):
    ours, theirs = pty.openpty()
    said = []
    with open(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        with at_desk(said.append) as desk:
            os.write(ours, b"xsy")
            desk.say("set the scene")
            found = [key for _ in range(200) if not time.sleep(0.005) and (key := desk.pressed())]
            assert found == ["start", "success"] and said == ["set the scene"]
            os.write(ours, b"\x03")
            with pytest.raises(KeyboardInterrupt):
                [desk.pressed() for _ in range(200) if not time.sleep(0.005)]
    os.close(ours)


def test_without_a_terminal_an_operator_is_asked_to_use_one(monkeypatch, tmp_path):
    with open(tmp_path / "empty", "w+") as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(NoTerminalError, match="give --unattended"), at_desk(print):
            pass


def test_without_a_robot_it_says_so(policies, monkeypatch):
    monkeypatch.setattr("rewact_ros.stack.robot_trials.ANSWER_S", 0.5)
    with kept_environment("ROS_DOMAIN_ID"):
        os.environ.pop("ROS_DOMAIN_ID", None)
        lock = own_domain()
        rclpy.init()
        try:
            with (
                pytest.raises(StackError, match="start the robot with `rewact up`"),
                trials(policies, Operator([])),
            ):
                pass
        finally:
            rclpy.shutdown()
            lock.release()
