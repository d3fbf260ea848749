"""Training throughput beside stock `lerobot-train --policy.type=act`, and what the head costs.

Comparisons on the real G1 videos (480x640, AV1) with one network for both (ResNet-18 without
pretrained weights and the transformer that `rewact train` takes by default), the same episodes,
batch and workers:

- small: both feed 120x160 to the network; stock resizes in its loader (`image_transforms`);
- default: each as its user would run it: stock at 480x640 (ACT has no resize), ours at 120x160.

Ours trains with reward head and averaged weights on, which stock ACT has not.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import typer
from engines_cases import choose_device

from rewact_ros.bench.figures import Bench, Figure
from rewact_ros.share import share_dir

SMALL = (120, 160)
NETWORK = {
    "vision_backbone": "resnet18",
    "dim_model": "128",
    "n_heads": "4",
    "dim_feedforward": "512",
    "n_encoder_layers": "2",
    "n_decoder_layers": "2",
    "use_vae": "false",
    "chunk_size": "20",
}
BATCH, EPISODES = 8, (0, 1)
# With 8 frames both only launch kernels: an H200 made 23 to 25 steps a second of either.
GPU_BATCH = 64
HEADS = ("none", "sigmoid", "distributional")
_RESIZE = (
    '{"resize": {"weight": 1.0, "type": "Resize", "kwargs": {"size": [%d, %d], "antialias": true}}}'
)
_STEP = re.compile(r" step:(\d+) .*updt_s:([\d.]+) data_s:([\d.]+)")


@dataclass(frozen=True)
class SideBySide:
    """One way to set stock and ours side by side.

    Attributes:
        stock_size, our_size: what the network sees (height, width), None for the camera's own.
        workers: of either.
        steps, warm_up: of a run, and how many of them are left out.
        batch: frames per step.
        cache_off: also measure ours without the frame cache.
        goals: of the ratios with the cache and without.
    """

    name: str
    stock_size: tuple[int, int] | None
    our_size: tuple[int, int] | None
    workers: int
    steps: int
    warm_up: int
    cache_off: bool = False
    goals: tuple[str, str] = ("", "")
    batch: int = BATCH


def run(bench: Bench) -> None:
    """Measure throughput and the head's cost."""
    device = choose_device(bench)
    batch = GPU_BATCH if device == "cuda" else BATCH
    bench.settings.update(
        data="g1_bottle episodes 0:2", batch=batch, network=NETWORK, torch_threads=1
    )
    bench.figures |= measure(bench.quick, device)


def measure(quick: bool, device: str) -> dict[str, Figure]:
    """Measure all; a quick run takes one comparison, a few steps and no repeats.

    On a GPU the loaders and the start of each program are most of the time: more steps, no repeats.
    """
    data = Path(os.environ.get("REWACT_DATA", share_dir().parent / "shared" / "data")) / "g1_bottle"
    # The head's cost is a figure of the CPU: on a lent GPU it would take the time of others.
    figures = head_cost(rounds=6 if quick else 40) if device == "cpu" else {}
    if not data.is_dir():
        typer.echo(f"  throughput: no videos at {data}; set REWACT_DATA")
        return figures
    repeats = 1 if quick or device == "cuda" else 3
    with tempfile.TemporaryDirectory() as folder:
        for comparison in _plan(quick, device):
            figures |= compare(comparison, data, Path(folder), repeats, device)
    return figures


def _plan(quick: bool, device: str) -> list[SideBySide]:
    cores = os.cpu_count() or 1
    if quick:
        return [SideBySide("small_no_workers", SMALL, SMALL, 0, 8, 2, goals=("≥ 3", ""))]
    if device == "cuda":
        workers = min(cores, 8)
        sizes = ("small", SMALL, SMALL, workers, 100, 20, True, ("≥ 3", "≥ 1"), GPU_BATCH)
        return [SideBySide(*sizes)]
    return [
        SideBySide("small", SMALL, SMALL, cores, 24, 10, True, ("≥ 3", "≥ 0.97")),
        SideBySide("small_no_workers", SMALL, SMALL, 0, 14, 3, True, ("≥ 3", "≥ 0.97")),
        SideBySide("default", None, SMALL, cores, 10, 5, goals=("≥ 3", "")),
    ]


def compare(
    comparison: SideBySide, data: Path, folder: Path, repeats: int, device: str
) -> dict[str, Figure]:
    """Run stock, ours cached and ours uncached in turn, ``repeats`` times over."""
    speeds: dict[str, list[float]] = {}
    for _ in range(repeats):
        speeds.setdefault("stock", []).append(_stock(comparison, data, folder, device))
        speeds.setdefault("cache", []).append(_ours(comparison, data, folder, device, cached=True))
        if comparison.cache_off:
            speeds.setdefault("no_cache", []).append(
                _ours(comparison, data, folder, device, cached=False)
            )
    figures = {
        f"throughput_{comparison.name}_{which}": _figure(values, "samples/s")
        for which, values in speeds.items()
    }
    for which, goal in zip(("cache", "no_cache"), comparison.goals, strict=True):
        ratios = [o / s for o, s in zip(speeds.get(which, []), speeds["stock"], strict=False)]
        if ratios:
            name = f"throughput_{comparison.name}_{which}_over_stock"
            figures[name] = _figure(ratios, "ratio", goal)
    for name, figure in figures.items():
        typer.echo(f"  {name}: {figure.value:.3g} {figure.unit}")
    return figures


def _figure(values: list[float], unit: str, goal: str = "") -> Figure:
    middle = statistics.median(values)
    return Figure(middle, unit, goal, len(values), min(values), max(values))


def _stock(comparison: SideBySide, data: Path, folder: Path, device: str) -> float:
    """Samples per second of `lerobot-train`, from the times that it logs itself."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    arguments = {
        "policy.type": "act",
        "policy.push_to_hub": "false",
        "policy.device": device,
        "policy.pretrained_backbone_weights": "null",
        "dataset.repo_id": "local/g1_bottle",
        "dataset.root": data,
        "dataset.episodes": list(EPISODES),
        "batch_size": comparison.batch,
        "num_workers": comparison.workers,
        "steps": comparison.steps,
        "log_freq": 1,
        "save_checkpoint": "false",
        "env_eval_freq": 0,
        "wandb.enable": "false",
        "output_dir": out,
        **{f"policy.{name}": value for name, value in NETWORK.items()},
        "policy.n_action_steps": NETWORK["chunk_size"],
    }
    if comparison.stock_size is not None:
        arguments |= {
            "dataset.image_transforms.enable": "true",
            "dataset.image_transforms.max_num_transforms": 1,
            "dataset.image_transforms.tfs": _RESIZE % comparison.stock_size,
        }
    text = _execute("lerobot.scripts.lerobot_train", *(f"--{k}={v}" for k, v in arguments.items()))
    steps = [(int(n), float(a) + float(b)) for n, a, b in _STEP.findall(text)]
    after = [seconds for number, seconds in steps if number > comparison.warm_up]
    return comparison.batch * _steps_per_s(after, text)


def _ours(comparison: SideBySide, data: Path, folder: Path, device: str, cached: bool) -> float:
    """Samples per second of `rewact train`, from its own log."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    policy = dict(NETWORK)
    if comparison.our_size is not None:
        policy["image_size"] = str(list(comparison.our_size))
    arguments = {
        "dataset": data,
        "out": out,
        "episodes": f"{EPISODES[0]}:{EPISODES[-1] + 1}",
        "val-fraction": 0,
        "batch-size": comparison.batch,
        "workers": comparison.workers,
        "steps": comparison.steps,
        "log-every": 1,
        "device": device,
        "cache": folder / "cache",
    }
    command = ["train", "--progress-ramp", *(() if cached else ("--no-cache",))]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    for name, value in policy.items():
        command += ["--policy", f"{name}={value}"]
    text = _execute("rewact_ros.cli", *command)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(out / "tensorboard"))
    log.Reload()
    seconds = [
        event.value for event in log.Scalars("train/step_s") if event.step > comparison.warm_up
    ]
    shutil.rmtree(out)
    return comparison.batch * _steps_per_s(seconds, text)


def _execute(module: str, *arguments: str) -> str:
    """Run a command by its module offline with one torch thread; returns what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "400"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


def _steps_per_s(seconds: list[float], text: str) -> float:
    if not seconds:
        raise RuntimeError(f"no step times in the log: {text[-2000:]}")
    return len(seconds) / sum(seconds)


def head_cost(rounds: int) -> dict[str, Figure]:
    """Cost of the reward heads in % of a whole training step, heads in turn within every round.

    On the network that `rewact train` takes by default (small CNN, d=128), two cameras of 96x96,
    batch 32: the smallest network, so the largest share.
    """
    import torch

    torch.set_num_threads(1)
    steps = {head: _training_step(head) for head in HEADS}
    seconds: dict[str, list[float]] = {head: [] for head in HEADS}
    for number in range(rounds + 2):
        shift = number % len(HEADS)  # no head is always the one after a pause
        for head in HEADS[shift:] + HEADS[:shift]:
            started = time.perf_counter()
            steps[head]()
            if number >= 2:
                seconds[head].append(time.perf_counter() - started)
    base = statistics.median(seconds["none"])
    figures = {"train_step_without_head": Figure(1e3 * base, "ms", n=rounds)}
    for head in HEADS[1:]:
        extra = [100 * (a - b) / b for a, b in zip(seconds[head], seconds["none"], strict=True)]
        low, _, high = statistics.quantiles(extra, n=4)
        cost = 100 * (statistics.median(seconds[head]) / base - 1)
        figures[f"head_cost_{head}"] = Figure(cost, "% of a step", "≤ 3", rounds, low, high)
    for name, figure in figures.items():
        typer.echo(f"  {name}: {figure.value:.3g} {figure.unit}")
    return figures


def _training_step(head: str):
    """A function that does one step of a policy with this head on a fixed random batch."""
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature

    from rewact_ros.policy import RewACTConfig, RewACTPolicy

    cameras = [f"observation.images.{name}" for name in ("front", "wrist")]
    config = RewACTConfig(reward_head=head, device="cpu")
    config.input_features = {
        "observation.state": PolicyFeature(FeatureType.STATE, (7,)),
        **{camera: PolicyFeature(FeatureType.VISUAL, (3, 96, 96)) for camera in cameras},
    }
    config.output_features = {"action": PolicyFeature(FeatureType.ACTION, (7,))}
    torch.manual_seed(0)
    policy = RewACTPolicy(config).train()
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-4)
    batch = {
        "observation.state": torch.randn(32, 7),
        "action": torch.randn(32, config.chunk_size, 7),
        "next.reward": torch.rand(32),
        **{camera: torch.rand(32, 3, 96, 96) for camera in cameras},
    }

    def step() -> None:
        loss, _ = policy(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
        optimizer.step()

    return step
