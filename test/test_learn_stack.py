"""`rewact learn --sim`: the whole stack learns, and nothing outlives it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, VX300S

from rewact_ros import strict_yaml
from rewact_ros.learning.rl.journal import Journal, to_record

pytestmark = pytest.mark.real_time

QUICK = {
    "batch_size": 8, "hidden_dim": 32, "image_encoder_hidden_dim": 8, "image_size": [32, 32],
    "online_step_before_learning": 2, "critic_warmup_updates": 2, "utd_ratio_uncalibrated": 0.5,
    "online_buffer_capacity": 2000, "offline_buffer_capacity": 200,
}  # fmt: skip
LEARN = [
    *(sys.executable, "-c", "from rewact_ros.cli import main; main()", "learn", "--sim"),
    *("--policy", str(ROOT / "models" / "vx300s_pick_place"), "--publish-every", "1"),
    *("--algorithm", "residual"),
    *("--episodes", "2", "--limit-s", "5", "--no-interventions", "--video-every", "0"),
    *(text for name, value in QUICK.items() for text in ("--set", f"{name}={json.dumps(value)}")),
]


@pytest.mark.timeout(600)
def test_the_stack_learns_from_what_the_robot_executed_and_publishes_versions(tmp_path: Path):
    patient = strict_yaml.load(VX300S)  # a busy machine must not trip watchdogs
    for key, value in patient.items():
        if key.startswith("observation"):
            value["max_age_s"] = 1.5
    patient.update(heartbeat_timeout_s=1.5, max_chunk_age_s=1.0)
    contract, out = tmp_path / "vx300s.yaml", tmp_path / "run"
    contract.write_text(yaml.safe_dump(patient, sort_keys=False))
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    done = subprocess.run(
        [*LEARN, "--contract", str(contract), "--out", str(out)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    log = (out / "nodes.log").read_text() if (out / "nodes.log").exists() else ""
    assert done.returncode == 0, done.stderr + log
    episodes = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    assert len(episodes) == 2
    executed, learned = Journal(out / "robot"), Journal(out / "journal")
    own = [to_record(t) for t in executed.read()]
    assert own and own == [to_record(t) for t in learned.read()]
    assert {t.episode for t in learned.read()} <= {episode["episode"] for episode in episodes}
    executed.close()
    learned.close()
    state = json.loads((out / "checkpoints" / "last" / "state.json").read_text())
    assert state["transitions"] == len(own) and state["updates"] > 0
    assert (out / "policies" / "newest" / "model.safetensors").is_file()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(out) not in process.read_text(), "a process outlived the run"
        except OSError:
            continue  # it has just ended
