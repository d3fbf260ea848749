"""LeRobot's own policies, trained by `lerobot-train` on our demonstrations, on one thread."""

import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_STEP = re.compile(r" step:\S+ .*updt_s:([\d.]+) data_s:([\d.]+)")
_PROBED, _WARM_UP = 24, 8  # steps that tell its speed, and how many of them are left out


@dataclass(frozen=True)
class LeRobotRun:
    """A training.

    Attributes:
        policy: its checkpoint.
        steps: that it made.
        seconds: that they took, without start and end of the program.
    """

    policy: str
    steps: int
    seconds: float


def train_seconds(
    dataset: Path, out: Path, seconds: float, arguments: dict[str, str]
) -> LeRobotRun:
    """Train for so many seconds: as many steps as its own speed on this machine allows.

    Raises:
        RuntimeError: it ended with an error, whose text is told.
    """
    probe = _run(dataset, out / "probe", _PROBED, arguments, keeps=False)
    a_step = statistics.median(probe[_WARM_UP:])
    return train_steps(dataset, out, max(round(seconds / a_step), 1), arguments)


def train_steps(dataset: Path, out: Path, steps: int, arguments: dict[str, str]) -> LeRobotRun:
    """Train so many steps.

    Raises:
        RuntimeError: it ended with an error, whose text is told.
    """
    took = _run(dataset, out / "run", steps, arguments, keeps=True)
    checkpoint = out / "run" / "checkpoints" / "last" / "pretrained_model"
    return LeRobotRun(str(checkpoint), steps, sum(took))


def _run(
    dataset: Path, out: Path, steps: int, arguments: dict[str, str], keeps: bool
) -> list[float]:
    """Seconds of each step, as it logs them itself; one thread, and no loader beside it."""
    shutil.rmtree(out, ignore_errors=True)  # of a killed run, which it would not go on with
    given = {
        "policy.device": "cpu",
        "policy.push_to_hub": "false",
        "dataset.repo_id": f"local/{dataset.name}",
        "dataset.root": dataset,
        "num_workers": 0,
        "steps": steps,
        "log_freq": 1,
        "save_checkpoint": str(keeps).lower(),
        "save_freq": steps,
        "env_eval_freq": 0,
        "wandb.enable": "false",
        "output_dir": out,
        **arguments,
    }
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "400"}
    done = subprocess.run(
        [sys.executable, "-m", "lerobot.scripts.lerobot_train"]
        + [f"--{name}={value}" for name, value in given.items()],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    times = [float(update) + float(data) for update, data in _STEP.findall(done.stdout)]
    if done.returncode or len(times) < steps:
        raise RuntimeError(
            f"lerobot-train ended with {done.returncode} after {len(times)} of {steps} steps: "
            f"{done.stdout[-2000:]}"
        )
    return times
