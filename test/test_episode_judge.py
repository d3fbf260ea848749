"""The judge without ROS: in a loop of one's own, in LeRobot's roll-outs, without rclpy."""

import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from lerobot.configs import FeatureType, PolicyFeature
from test_supervisor import CALIBRATION

from rewact_ros.contract import ContractError
from rewact_ros.episodes.judge import UNKNOWN_ROBOT, EpisodeJudge
from rewact_ros.episodes.looking import Looking
from rewact_ros.episodes.verdicts import VerdictFile
from rewact_ros.policy.checkpoint import load_policy, save_policy
from rewact_ros.policy.configuration_rewact import RewACTConfig
from rewact_ros.policy.modeling_rewact import RewACTPolicy
from rewact_ros.policy.processor_rewact import make_rewact_pre_post_processors
from rewact_ros.reward.judges import JudgeSettings
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.verdict import Outcome, Termination, Verdict

SITE = Path(__file__).parent / "lerobot_site"
FRONT, STATE = "observation.images.front", "observation.state"
JOINTS = ["shoulder_pan", "elbow_flex", "gripper"]
SETTINGS = JudgeSettings("cpu", "torch")
YES, NO = 8.0, -8.0


def write(folder, logit, names=JOINTS):
    """A policy for the arm in `lerobot_site` that always predicts sigmoid(logit)."""
    inputs = {
        STATE: PolicyFeature(FeatureType.STATE, (3,)),
        FRONT: PolicyFeature(FeatureType.VISUAL, (3, 24, 32)),
    }
    torch.manual_seed(0)
    config = RewACTConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (3,))},
        **{"chunk_size": 10, "n_action_steps": 10, "dim_model": 32, "n_encoder_layers": 1},
        dim_feedforward=64,
        device="cpu",
    )
    policy = RewACTPolicy(config)
    with torch.no_grad():
        last = policy.model.action_head.reward[-1]
        last.weight.zero_()
        last.bias.fill_(logit)
    stats = {
        STATE: {"mean": torch.zeros(3), "std": torch.full((3,), 20.0)},
        "action": {"mean": torch.zeros(3), "std": torch.ones(3)},
    }
    features = {
        STATE: {"shape": [3], "names": list(names)},
        FRONT: {"shape": [24, 32, 3]},
        "action": {"shape": [3], "names": list(names)},
    }
    contract = {"hash": "arm", "signature": {"rate_hz": 20.0, "features": features}}
    processors = make_rewact_pre_post_processors(config, dataset_stats=stats)
    save_policy(folder, policy, *processors, contract=contract)
    return folder


@pytest.fixture(scope="module")
def yes(tmp_path_factory):
    return write(tmp_path_factory.mktemp("judge") / "yes", YES)


@pytest.fixture(scope="module")
def no(tmp_path_factory):
    return write(tmp_path_factory.mktemp("judge") / "no", NO)


def seen(grey=0):
    return {STATE: np.zeros(3, np.float32), FRONT: np.full((24, 32, 3), grey, np.uint8)}


def run(judge, seconds=3.0, rate_hz=20):
    """Show an episode; the first judgement with a verdict and its time, or the last."""
    judge.reset()
    for k in range(round(rate_hz * seconds)):
        now = judge.step(seen(), 100.0 + k / rate_hz)
        if now.verdict is not None:
            break
    return now, k / rate_hz


def calibrate(folder, copy, **basis):
    """A copy of a judge with a calibration that is for it."""
    copy = shutil.copytree(folder, copy)
    loaded = load_policy(copy, "cpu")
    given = {
        "reward_hash": loaded.reward_hash,
        "policy_version": loaded.version,
        "contract_hash": "arm",
        "cameras": (FRONT,),
        "rate_hz": 20.0,
        "timeout_s": 6.0,
    }
    found = replace(
        CALIBRATION,
        basis=replace(CALIBRATION.basis, **{**given, **basis}),
        signals=replace(CALIBRATION.signals, level="mean"),
        distance=None,
        alarms={k: v for k, v in CALIBRATION.alarms.items() if k != "novelty"},
    )
    found.save(copy / "calibration.json")
    return copy, loaded.version


# One episode after the other --------------------------------------------------------------------


def test_it_ends_an_episode_as_the_supervisor_would(yes, no):
    judge = EpisodeJudge.open(yes, timeout_s=2.0, settings=SETTINGS)
    for _ in range(2):  # and begins the next one anew
        now, time_s = run(judge)
        assert now.complete and now.progress > 0.99 and now.bound == "uncalibrated"
        assert now.verdict.outcome is Outcome.SUCCESS and now.verdict.by == "judge"
        assert now.verdict.termination is Termination.PROGRESS
        assert 0.4 < time_s < 0.6, "one sample never decides: a full window of ten"
    judge = EpisodeJudge.open(no, timeout_s=2.0, settings=SETTINGS)
    now, time_s = run(judge)
    assert now.verdict == Verdict(
        Outcome.FAILURE, Termination.TIMEOUT, "2 s, peak progress 0.00", "judge"
    )
    assert 2.0 < time_s < 2.2
    judge = EpisodeJudge.open(no, settings=SETTINGS)
    now, time_s = run(judge, 12.0, rate_hz=4)
    assert now.verdict.termination is Termination.ALARM and "stall alarm" in now.verdict.detail
    assert now.alarms == {"stall"} and 9.0 <= time_s < 9.6  # 8 s without progress, then alarm_s
    judge = EpisodeJudge.open(no, alarm_s=math.inf, settings=SETTINGS)
    assert run(judge, 12.0, rate_hz=4)[0].verdict is None


def test_a_judge_that_sees_nothing_more_condemns_nobody(no):
    judge = EpisodeJudge.open(no, timeout_s=5.0, settings=SETTINGS)
    judge.step(seen(), 0.0)
    verdicts = [judge.judge(k / 10).verdict for k in range(40)]
    (found, *_) = [verdict for verdict in verdicts if verdict is not None]
    assert (found.outcome, found.termination) == (Outcome.UNLABELLED, Termination.ALARM)
    assert "staleness" in found.detail
    assert judge.time_out(5.1).detail == "5 s, no fresh reward"


def test_a_calibrations_bound_is_claimed_for_the_policy_that_drove(yes, tmp_path):
    folder, version = calibrate(yes, tmp_path / "calibrated")
    judge = EpisodeJudge.open(folder, driver=version, settings=SETTINGS)
    assert judge.bound.startswith("bound: false completions <=") and judge.timeout_s == 6.0
    assert run(judge)[0].bound == judge.bound
    other = EpisodeJudge.open(folder, driver="another", settings=SETTINGS)
    assert "not claimed" in other.bound
    with pytest.raises(CalibrationError, match="timeout_s: expected 6"):
        EpisodeJudge.open(folder, timeout_s=7.0, settings=SETTINGS)
    with pytest.raises(CalibrationError, match="rate_hz: expected 20"):
        EpisodeJudge.open(folder, rate_hz=30.0, settings=SETTINGS)
    (folder / "contract.json").unlink()
    unknown = EpisodeJudge.open(folder, driver=version, settings=SETTINGS)
    assert unknown.bound == UNKNOWN_ROBOT and run(unknown)[0].verdict is not None


def test_what_it_cannot_know_it_asks_for_by_name(yes, no, tmp_path):
    bare = shutil.copytree(yes, tmp_path / "bare")
    (bare / "contract.json").unlink()
    with pytest.raises(ValueError, match="rate_hz: expected the rate of the observations"):
        EpisodeJudge.open(bare, settings=SETTINGS)
    judge = EpisodeJudge.open(yes, settings=SETTINGS)
    judge.require_names(["shoulder_pan.pos", "elbow_flex.pos", "gripper.pos"])
    with pytest.raises(ContractError, match=r"state\[1\]: expected elbow_flex .*got gripper"):
        judge.require_names(["shoulder_pan.pos", "gripper.pos", "elbow_flex.pos"])
    with pytest.raises(KeyError, match=f"lacks {FRONT}"):
        judge.step({STATE: np.zeros(3, np.float32)}, 0.0)
    with pytest.raises(ValueError, match="front: expected shape"):
        judge.step({**seen(), FRONT: np.zeros((4, 4, 3), np.uint8)}, 0.0)


def test_a_thread_looks_at_the_newest_and_a_fault_ends_nothing(yes):
    judge = EpisodeJudge.open(yes, settings=SETTINGS)
    looking = Looking(judge)
    try:
        for k in range(400):
            looking.show({} if k < 5 else seen(), k / 20)
            now = judge.judge(k / 20)
            if now.complete:
                break
            if k == 4:
                wait_for(lambda: "lacks" in looking.fault)
            wait_for(lambda: looking._waiting is None)
        assert now.complete
        looking.begin()
        assert not judge.judge(100.0).complete
    finally:
        looking.end()
    assert not looking._thread.is_alive()


def wait_for(condition):
    import time

    end_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def test_verdicts_of_another_policys_episodes_are_not_mixed(tmp_path):
    (tmp_path / "meta").mkdir()
    about = {"policy": {"version": "a"}, "judge": {}, "settings": {"limit_s": 2.0}}
    late = Verdict(Outcome.FAILURE, Termination.TIMEOUT, "2 s", "judge")
    file = VerdictFile(tmp_path, about)
    for episode in range(3):
        file.keep(episode, late, 2.0)
    resumed = VerdictFile(tmp_path, about)
    resumed.only(2)
    kept = json.loads((tmp_path / "meta" / "rollouts.json").read_text())
    assert [episode["episode"] for episode in kept["episodes"]] == [0, 1]
    assert kept["settings"] == {"limit_s": 2.0}
    with pytest.raises(ValueError, match="policy: expected a, which drove"):
        VerdictFile(tmp_path, {**about, "policy": {"version": "b"}})


# LeRobot's roll-outs -----------------------------------------------------------------------------


@pytest.fixture
def rollout(tmp_path, monkeypatch):
    """Function: `rewact-rollout` in this process, on the arm without hardware."""
    from rewact_ros.episodes import lerobot_rollout

    if str(SITE) not in sys.path:
        sys.path.append(str(SITE))
    (tmp_path / "arm").mkdir()
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in caught}

    def rollout(policy, name="data", **options):
        given = {
            "robot.type": "fixture_arm",
            "robot.folder": tmp_path / "arm",
            "policy.path": policy,
            "strategy.type": "rewact",
            "strategy.judge_device": "cpu",
            "strategy.reset_to_initial_position": False,
            "fps": 20,
            "dataset.fps": 20,
            "dataset.repo_id": "me/rollout_test",
            "dataset.root": tmp_path / name,
            "dataset.single_task": "glow",
            "dataset.num_episodes": 2,
            "dataset.episode_time_s": 1.5,
            "dataset.reset_time_s": 0,
            "dataset.video": False,
            "dataset.push_to_hub": False,
            "play_sounds": False,
            "return_to_initial_position": False,
            **{key.replace("__", "."): value for key, value in options.items()},
        }
        words = [f"--{key}={value}" for key, value in given.items()]
        monkeypatch.setattr(sys, "argv", ["rewact-rollout", *words])
        lerobot_rollout.main()
        return tmp_path / name

    yield rollout
    for number, handler in before.items():
        signal.signal(number, handler)


def test_lerobots_rollout_ends_each_episode_at_its_verdict_and_keeps_it(
    rollout, yes, no, tmp_path, caplog
):
    folder, version = calibrate(yes, tmp_path / "calibrated")
    data = rollout(folder)
    report = json.loads((data / "meta" / "rollouts.json").read_text())
    assert [e["outcome"] for e in report["episodes"]] == ["success", "success"]
    assert all(0.4 < e["duration_s"] < 1.4 for e in report["episodes"])
    assert report["policy"]["version"] == report["judge"]["version"] == version
    assert report["judge"]["bound"].startswith("bound: false completions <=")
    assert report["settings"] == {"limit_s": 1.5, "rate_hz": 20.0}
    info = json.loads((data / "meta" / "info.json").read_text())
    assert info["total_episodes"] == 2 and info["total_frames"] < 50
    assert (tmp_path / "arm" / "log").read_text().splitlines()[-1] == "disconnect"

    # Another judge beside the policy; no success in time.
    data = rollout(folder, "beside", strategy__judge=no, dataset__num_episodes=1)
    report = json.loads((data / "meta" / "rollouts.json").read_text())
    (episode,) = report["episodes"]
    assert (episode["outcome"], episode["termination"]) == ("failure", "timeout")
    assert report["judge"]["version"] != version == report["policy"]["version"]
    assert report["judge"]["bound"] == "uncalibrated"

    without_ros(ROOT / "examples" / "lerobot_judge.py", no, data)


def without_ros(script, *words):
    """Run a script in a process to which rclpy and our messages are not installed."""
    blocked = (
        "import sys, runpy\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'rclpy' or name.startswith('rewact_ros.msg'):\n"
        "            raise ModuleNotFoundError(f'no ROS here: {name}')\n"
        "sys.meta_path.insert(0, Blocked())\n"
        f"sys.argv = {[str(script), *map(str, words)]!r}\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "uncalibrated" in done.stdout.splitlines()[0]
    assert "episode 0: goes on; progress 0.00" in done.stdout


def test_a_robot_whose_joints_are_others_is_refused_before_it_moves(rollout, tmp_path):
    folder = write(tmp_path / "other", YES, names=["shoulder_pan", "gripper", "elbow_flex"])
    with pytest.raises(ContractError, match=r"state\[1\]: expected gripper"):
        rollout(folder)
    log = (tmp_path / "arm" / "log").read_text().splitlines()
    assert log == ["connect", "calibrate", "disconnect"]


def test_lerobot_itself_has_no_seat_for_strategies_of_others_yet():
    """Where it has one, `rewact-rollout` is needed no more, and docs/lerobot.md says otherwise."""
    from lerobot.rollout import create_strategy

    from rewact_ros.episodes.lerobot_strategy import RewACTStrategyConfig

    with pytest.raises(ValueError, match="Unknown strategy type 'rewact'"):
        create_strategy(RewACTStrategyConfig())
