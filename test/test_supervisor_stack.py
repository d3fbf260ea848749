"""Help on the real stack: the policy stalls, the scripted human finishes, the reward says so."""

import pytest
import yaml
from conftest import ROOT, VX300S

from rewact_ros import strict_yaml
from rewact_ros.msg import EpisodeEvent
from rewact_ros.ros import interfaces as names
from rewact_ros.stack.bringup import BringUp
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.episode_watch import EpisodeWatch

pytestmark = pytest.mark.real_time

POLICY = ROOT / "models" / "vx300s_pick_place"
# Whatever the policy does counts as a stall at once, so that help is needed in every scene.
PARAMS = """
/**/supervisor:
  ros__parameters:
    stall_s: 0.1
    ladder_stall: hold 0
    helps_per_signal: 1
    timeout_s: 60.0
/**/hil:
  ros__parameters:
    lease_timeout_s: 2.0
"""


@pytest.fixture
def robot(tmp_path):
    data = strict_yaml.load(VX300S)
    for key, value in data.items():  # a busy machine must not trip watchdogs
        if key.startswith("observation"):
            value["max_age_s"] = 1.5
    for source in data["teleop"].values():
        source["max_age_s"] = source["deadman"]["max_age_s"] = 1.0
    data.update(heartbeat_timeout_s=1.5, max_chunk_age_s=1.0)
    (tmp_path / "vx300s.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (tmp_path / "params.yaml").write_text(PARAMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        args = BringUp(
            contract=str(tmp_path / "vx300s.yaml"),
            params_file=str(tmp_path / "params.yaml"),
            policy=str(POLICY),
            teleop="scripted_human",
            sim=True,
            seed=100_020,
        )
        with Commander(args) as robot:
            yield robot


@pytest.mark.timeout(300)
def test_a_policy_that_stalls_calls_a_human_whose_success_is_recognised(robot, vx300s):
    events = []
    robot.node.create_subscription(EpisodeEvent, names.EPISODE_EVENT, events.append, names.EVENTS)
    robot.arm()
    watch = EpisodeWatch(robot, vx300s)
    result, log = watch.execute("put the cube into the tray", settle_s=0.5)
    assert result.success, (result.reason, robot.supervisor.text)
    assert result.reason.startswith("progress")
    assert log.truth.success
    kinds = [event.event for event in events]
    order = (EpisodeEvent.RUNNING, EpisodeEvent.HELP, EpisodeEvent.RESUMED, EpisodeEvent.VERDICT)
    assert [kind for kind in kinds if kind in order] == list(order)
    resumed = next(event for event in events if event.event == EpisodeEvent.RESUMED)
    assert "scripted_human took over" in resumed.detail
