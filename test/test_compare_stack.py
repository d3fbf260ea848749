"""A blinded comparison on the real stack: its policy node takes every trial's copy."""

import pytest
import rclpy
import yaml
from conftest import VX300S, write_policy

from rewact_ros import strict_yaml
from rewact_ros.policy.checkpoint_files import open_folder
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.robot_trials import robot_trials
from rewact_ros.trials.settings import TrialSettings
from rewact_ros.trials.study import Study, named_versions

pytestmark = [pytest.mark.timeout(300), pytest.mark.real_time]
PARAMS = """
/**/hil:
  ros__parameters: {lease_timeout_s: 2.0}
/**/supervisor:
  ros__parameters: {staleness_s: 5.0}
/**/policy:
  ros__parameters: {policy_dir: FOLDER, engine: torch}  # exports at swaps: test_policy_path
"""


@pytest.fixture
def robot(tiny_policy, tmp_path):
    """An armed robot, and the lines that its processes log."""
    data = strict_yaml.load(VX300S)
    for key, value in data.items():  # a busy machine must not trip watchdogs
        if key.startswith("observation"):
            value["max_age_s"] = 1.5
    data.update(heartbeat_timeout_s=1.5, max_chunk_age_s=1.0)
    (tmp_path / "vx300s.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (tmp_path / "params.yaml").write_text(PARAMS.replace("FOLDER", str(tmp_path)))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        args = BringUp(
            contract=str(tmp_path / "vx300s.yaml"),
            params_file=str(tmp_path / "params.yaml"),
            policy=str(tiny_policy),
            sim=True,
        )
        log = []
        with Commander(args, write=log.append) as robot:
            robot.arm()
            yield robot, log


def test_policies_are_compared_and_nothing_that_runs_names_them(
    robot, vx300s, tiny_policy, tmp_path
):
    robot, log = robot
    other = write_policy(vx300s, tmp_path / "champion", dim_feedforward=32)
    checkpoints = [open_folder(folder) for folder in (tiny_policy, other)]
    study = Study(named_versions([(f.path, f.sha256) for f in checkpoints]), 3, {})
    settings, versions, logged = TrialSettings(judge="supervisor", run_time_s=1.0), [], len(log)
    rclpy.init()
    try:
        with robot_trials(study, checkpoints, "lamp", "", "test", settings, None) as drive:
            for trial in study.block(0):
                result = drive(trial)
                assert result.score == 0.0 and result.about["reason"].startswith("timeout")
                versions.append(robot.policy.policy_version)
    finally:
        rclpy.shutdown()
    assert len(set(versions)) == 2
    assert not set(versions) & {f.version for f in checkpoints}
    # The first line is of the policy that ran before the study.
    taken = [line for line in log[logged:] if " -> " in line]
    assert len(taken) == 4 and all("blinded-lamp" in line for line in taken)
    told = " ".join([*log[logged:], robot.supervisor.text]).replace(
        f"{checkpoints[0].version} ->", ""
    )
    for secret in ("champion", str(tiny_policy), *(f.version for f in checkpoints)):
        assert secret not in told
