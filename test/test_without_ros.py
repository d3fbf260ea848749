"""Commands that need no ROS, on a machine that has none: training, evaluation, benchmarks."""

import subprocess
import sys
from pathlib import Path

import pytest

# A GPU machine for training has Python, torch and LeRobot. What ROS brings does not import there.
_MACHINE = """
import sys

class NoRos:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        of_ros = top in ("rclpy", "launch", "launch_ros") or top.endswith(("_msgs", "_srvs"))
        if of_ros or name in ("rewact_ros.msg", "rewact_ros.srv", "rewact_ros.action"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoRos())
from rewact_ros.cli import main
main()
"""


def rewact(*words: str, seconds: float = 100.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _MACHINE, *words], capture_output=True, text=True, timeout=seconds
    )


@pytest.mark.parametrize("words", [(), ("bench",), ("train",), ("up",), ("learn",)], ids=" ".join)
def test_help_is_there(words):
    done = rewact(*words, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: rewact" in done.stdout


def test_demonstrations_are_recorded_and_a_policy_trained(tmp_path: Path):
    demos, run = tmp_path / "demos", tmp_path / "run"
    few = ("--episodes", "2", "--failures", "0", "--retries", "0", "--workers", "1")
    sizes = ("--steps", "2", "--batch-size", "2", "--val-fraction", "0.5", "--device", "cpu")
    for words in (
        ("demos", "--out", str(demos), *few),
        ("train", "--dataset", str(demos), "--out", str(run), "--cache", str(tmp_path), *sizes),
    ):
        done = rewact(*words)
        assert done.returncode == 0, done.stderr
    assert (run / "checkpoints" / "last" / "pretrained_model" / "model.safetensors").is_file()


def test_what_needs_ros_names_it():
    done = rewact("up")
    assert done.returncode != 0
    assert "rclpy" in done.stderr and "Traceback" not in done.stderr
