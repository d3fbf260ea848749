"""LeRobot's own policies, trained by `lerobot-train` on our demonstrations, on one thread.

Topics share what `trained` makes: it lies in `runs/bench/lerobot`.
"""

import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rewact_ros.episodes.demos import DemoSettings, write_demos
from rewact_ros.files import replace_file
from rewact_ros.sim.task import DEFAULT_TASK
from rewact_ros.stack.bringup import default_contract

# Types, small enough for one thread and two pictures of 96 x 96; what is not said is LeRobot's.
# ResNets from scratch, with rates for a thousand steps and not for a hundred thousand.
_SMALL = {
    "policy.vision_backbone": "resnet18",
    "policy.pretrained_backbone_weights": "null",
    "policy.use_amp": "true",
    "batch_size": "16",
}
_ACT = _SMALL | {
    "policy.type": "act",
    "policy.dim_model": "128",
    "policy.n_heads": "4",
    "policy.dim_feedforward": "512",
    "policy.n_encoder_layers": "2",
    "policy.n_decoder_layers": "2",
    "policy.use_vae": "false",
    "policy.chunk_size": "20",
    "policy.n_action_steps": "20",
    # At 3e-4 the ResNet, whose frozen normalisation does nothing without ImageNet's statistics,
    # runs away within 100 steps, and the policy is the mean pose from then on.
    "policy.optimizer_lr": "1e-4",
    "policy.optimizer_lr_backbone": "1e-4",
}
TOLD = "told ACT"  # the plug-in of `policy_plugins` that reads a text
KINDS = {
    "ACT": _ACT,
    TOLD: _ACT | {"policy.type": "told_act"},
    # Pictures of 64 x 64, one observation, five steps of DDIM. 2,500 steps that predicted the noise
    # from two observations missed by 0.05 rad, and 0 of 42 scenes succeeded.
    "diffusion": _SMALL
    | {
        "policy.type": "diffusion",
        "policy.use_group_norm": "true",
        "policy.n_obs_steps": "1",
        "policy.prediction_type": "sample",
        "policy.down_dims": "[64,128,256]",
        "policy.horizon": "16",
        "policy.n_action_steps": "8",
        "policy.resize_shape": "[64,64]",
        "policy.crop_ratio": "0.9",
        "policy.noise_scheduler_type": "DDIM",
        "policy.num_inference_steps": "5",
        "policy.optimizer_lr": "1e-3",
        "policy.scheduler_warmup_steps": "100",
    },
    # It sees one camera; its codes of actions are learned in the first steps, and not in bf16.
    "VQ-BeT": _SMALL
    | {
        "policy.type": "vqbet",
        "policy.use_amp": "false",
        "policy.input_features": json.dumps(
            {
                "observation.state": {"type": "STATE", "shape": [7]},
                "observation.images.front": {"type": "VISUAL", "shape": [3, 96, 96]},
            }
        ),
        "policy.use_group_norm": "true",
        "policy.n_obs_steps": "3",
        "policy.gpt_n_layer": "4",
        "policy.gpt_n_head": "4",
        "policy.gpt_hidden_dim": "256",
        "policy.gpt_output_dim": "256",
        "policy.gpt_input_dim": "256",
        "policy.n_vqvae_training_steps": "400",
        "policy.optimizer_lr": "3e-4",
        "policy.scheduler_warmup_steps": "100",
    },
}
STEPS = {"ACT": 2000, TOLD: 2000, "diffusion": 6000, "VQ-BeT": 2000}
DEMOS, DEMONSTRATIONS = 36_000, 100  # first scene, and how many
# Of the second task (`task_plugins`), which is half as long.
POINT, POINT_DEMOS, POINT_DEMONSTRATIONS = "point", 36_500, 60
PLUGINS = [str(Path(__file__).with_name(name)) for name in ("policy_plugins", "task_plugins")]
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


def is_installed(kind: str) -> bool:
    """Whether what a kind needs is there; if not, it says so."""
    if kind != "diffusion" or importlib.util.find_spec("diffusers") is not None:
        return True
    print("  diffusion: left out, diffusers is not installed (make suites)")
    return False


def demonstrations(root: Path, count: int = DEMONSTRATIONS) -> Path:
    """Scripted successes of the simulated ViperX."""
    return _successes(root / "demos", DEFAULT_TASK, DEMOS, count)


def _successes(folder: Path, task: str, seed: int, count: int) -> Path:
    """Of a task from a scene on, unless they are there."""
    if not folder.exists():
        settings = DemoSettings(
            folder,
            Path(default_contract()),
            episodes=count,
            failures=0,
            retries=0,
            seed=seed,
            workers=1,
            task=task,
        )
        write_demos(settings, progress=False)
    return folder


def two_tasks(root: Path, count: int, others: int) -> Path:
    """The same, and as many of the second task, in one dataset; the texts tell them apart."""
    both = root / "demos-two-tasks"
    if not both.exists():
        from lerobot.datasets.aggregate import aggregate_datasets

        point = _successes(root / f"demos-{POINT}", POINT, POINT_DEMOS, others)
        roots = [demonstrations(root, count), point]
        partial = both.with_name("demos-two-tasks.partial")
        shutil.rmtree(partial, ignore_errors=True)
        names = [f"local/{root.name}" for root in roots]
        aggregate_datasets(names, f"local/{both.name}", roots, partial)
        partial.rename(both)
    return both


def provide_plugins() -> None:
    """Let this process and its children find the plug-ins, as if they were installed."""
    for folder in PLUGINS:
        if folder not in sys.path:
            sys.path.append(folder)
    known = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*known, *PLUGINS]))


def trained(kind: str, root: Path, quick: bool = False) -> Path:
    """Checkpoint of a kind; `quick`: one that only shows that it runs.

    Raises:
        RuntimeError: the training ended with an error.
    """
    folder, steps = root / kind, 10 if quick else STEPS[kind]
    arguments = KINDS[kind] | ({"batch_size": "2"} if quick else {})
    _require_recipe(folder, {**arguments, "steps": str(steps)})
    done = folder / "trained.json"
    if not done.exists():
        count, others = (2, 2) if quick else (DEMONSTRATIONS, POINT_DEMONSTRATIONS)
        told = kind == TOLD
        demos = two_tasks(root, count, others) if told else demonstrations(root, count)
        found = train_steps(demos, folder, steps, arguments)
        replace_file(done, json.dumps(asdict(found)) + "\n")
    return Path(json.loads(done.read_text())["policy"])


def _require_recipe(folder: Path, recipe: dict[str, str]) -> None:
    """What lies in a folder and was made by another recipe goes: nobody goes on with it."""
    note = folder / "recipe.json"
    if folder.exists() and (not note.exists() or json.loads(note.read_text()) != recipe):
        print(f"  {folder}: of another recipe, trained anew")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(note, json.dumps(recipe, indent=1) + "\n")


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
    return LeRobotRun(str(checkpoint), steps, statistics.mean(took) * steps)


def _run(
    dataset: Path, out: Path, steps: int, arguments: dict[str, str], keeps: bool
) -> list[float]:
    """Seconds of each step, as it logs them itself; one thread, and no loader beside it.

    What `keeps` its checkpoints goes on from the last, if it was killed; its log lies beside it.
    """
    last, log = out / "checkpoints" / "last" / "pretrained_model", out.with_suffix(".log")
    if keeps and last.exists():
        given = {"resume": "true", "config_path": last / "train_config.json", "steps": steps}
    else:
        shutil.rmtree(out, ignore_errors=True)
        log.unlink(missing_ok=True)
        given = {
            "policy.device": "cpu",
            "policy.push_to_hub": "false",
            "dataset.repo_id": f"local/{dataset.name}",
            "dataset.root": dataset,
            "num_workers": 0,
            "steps": steps,
            "log_freq": 1,
            "save_checkpoint": str(keeps).lower(),
            "save_freq": max(steps // 5, 1),
            "env_eval_freq": 0,
            "wandb.enable": "false",
            "output_dir": out,
            **arguments,
        }
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "400"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as sink:
        done = subprocess.run(
            [sys.executable, "-m", "lerobot.scripts.lerobot_train"]
            + [f"--{name}={value}" for name, value in given.items()],
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    text = log.read_text(errors="replace")
    times = [float(update) + float(data) for update, data in _STEP.findall(text)]
    if done.returncode or len(times) < steps:
        raise RuntimeError(
            f"lerobot-train ended with {done.returncode} after {len(times)} of {steps} steps: "
            f"{text[-2000:]}"
        )
    return times
