"""Engines beside LeRobot's own ACT: the same network, the same frames, one call after the other.

The baseline is `ACTPolicy.predict_action_chunk` with its processors, from the camera's uint8 pixels
to actions in the robot's units. Ours does the same and predicts the reward as well. Rounds take
turns with all of them, so that whatever else the machine does falls on all alike.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import typer

from rewact_ros.cli.bench import Bench
from rewact_ros.share import share_dir

THREADS, STATE, ACTION = 1, 14, 14
WARM_UP_ROUNDS = 5
_KEPT_SHARE = 0.8  # of a published ratio; less counts as a regression


@dataclass(frozen=True)
class Case:
    """A network to serve, and the least ratio over LeRobot that is wanted of the fastest engine."""

    name: str
    cameras: int
    size: tuple[int, int]
    goal: float | None = None
    network: dict[str, Any] = field(default_factory=dict)


SMALL = {"dim_model": 256, "n_heads": 8, "dim_feedforward": 1024, "chunk_size": 20}
FULL = {"dim_model": 512, "n_heads": 8, "dim_feedforward": 3200, "chunk_size": 100}
CASES = (
    Case("small_96x96", 1, (96, 96), 4.0, SMALL),
    Case("act_480x640", 1, (480, 640), 3.0, FULL),
    Case("act_2x480x640", 2, (480, 640), None, FULL),
)
CPU_ENGINES = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)
GPU_ENGINES = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("torch_cuda_graph", "fp32"),
    ("torch_cuda_graph", "bf16"),
    ("torch_cuda_graph", "fp16"),
)


def run(bench: Bench) -> None:
    """Measure every network on every engine of this machine."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rounds = 30 if bench.quick else 200
    bench.settings.update(
        device=device, threads=THREADS, rounds=rounds, warm_up_rounds=WARM_UP_ROUNDS
    )
    for case in CASES[:1] if bench.quick else CASES:
        measure(bench, case, device, rounds)
    shipped(bench, device, rounds)
    compare_with_published(bench)


def measure(bench: Bench, case: Case, device: str, rounds: int) -> None:
    """One network: LeRobot's ACT and ours of the same size on every engine."""
    from rewact_ros.policy.checkpoint import load_policy

    frames = _frames(case)
    with tempfile.TemporaryDirectory() as folder:
        calls = {"lerobot": _lerobot(case, device)}
        _save_ours(case, Path(folder, "policy"))
        loaded = load_policy(Path(folder, "policy"), device)
        calls |= _ours(bench, case.name, loaded, device, frames)
        times = _interleave(calls, frames, rounds)
    _add(bench, case.name, times, "lerobot", case.goal)


def shipped(bench: Bench, device: str, rounds: int) -> None:
    """The shipped policy, whose backbone LeRobot has not: beside its own eager run."""
    from rewact_ros.bringup import default_policy
    from rewact_ros.policy.checkpoint import load_policy

    loaded = load_policy(default_policy(), device)
    case = Case("shipped_2x96x96", 2, (96, 96))
    frames = [
        {
            key: frame["observation.state"][: feature.shape[0]]
            if key == "observation.state"
            else frame["observation.images.camera0"]
            for key, feature in loaded.config.input_features.items()
        }
        for frame in _frames(case)
    ]
    calls = _ours(bench, case.name, loaded, device, frames)
    _add(bench, case.name, _interleave(calls, frames, rounds), "torch_fp32", None)


def compare_with_published(bench: Bench) -> None:
    """Count ratios that fell well below those in docs/results, on whatever machine that was."""
    file = share_dir() / "docs" / "results" / "engines.json"
    if not file.is_file():
        return
    published = json.loads(file.read_text())["figures"]
    fallen = [
        name
        for name, figure in bench.figures.items()
        if "_over_" in name
        and name in published
        and figure.value < _KEPT_SHARE * published[name]["value"]
    ]
    for name in fallen:
        typer.echo(
            f"  regressed: {name}: {bench.figures[name].value:.3g}, "
            f"published {published[name]['value']:.3g}"
        )
    bench.add("ratios_regressed", len(fallen), "ratios", goal="0")


def _ours(
    bench: Bench, name: str, loaded: Any, device: str, frames: list[dict[str, np.ndarray]]
) -> dict[str, Callable[[dict[str, np.ndarray]], object]]:
    """Every engine that runs here, warmed up and checked against torch."""
    from rewact_ros.policy.engines import load_engine
    from rewact_ros.policy.runtimes import EngineError

    calls = {}
    for engine, precision in GPU_ENGINES if device == "cuda" else CPU_ENGINES:
        started_s = time.perf_counter()
        try:
            served = load_engine(loaded, engine, precision, THREADS, report=typer.echo)
            served.warm_up()
        except EngineError as error:
            typer.echo(f"  {name}: {error}")
            continue
        label = f"{engine}_{precision}"
        bench.add(f"{name}_{label}_ready", time.perf_counter() - started_s, "s")
        for frame in frames:
            served.infer(frame)
        typer.echo(f"  {name}: {served.description}")
        if not getattr(served, "fell_back", False):
            calls[label] = served.infer
    return calls


def _lerobot(case: Case, device: str) -> Callable[[dict[str, np.ndarray]], object]:
    """LeRobot's ACT with its processors, as its own inference loop prepares observations."""
    import torch
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.act.processor_act import make_act_pre_post_processors

    config = ACTConfig(pretrained_backbone_weights=None, device=device, **_network(case))
    config.input_features, config.output_features, stats = _features(case)
    policy = ACTPolicy(config).to(device).eval()
    preprocess, postprocess = make_act_pre_post_processors(config, stats)
    target = torch.device(device)

    @torch.inference_mode()
    def call(frame: dict[str, np.ndarray]) -> object:
        batch = {}
        for key, value in frame.items():
            tensor = torch.from_numpy(value).to(target)
            if "images" in key:
                tensor = tensor.float().div(255).permute(2, 0, 1).contiguous()
            batch[key] = tensor.unsqueeze(0)
        return postprocess(policy.predict_action_chunk(preprocess(batch)))

    return call


def _save_ours(case: Case, folder: Path) -> None:
    """The same network with a reward head, at random."""
    import torch
    from lerobot.configs import NormalizationMode

    from rewact_ros.policy import RewACTConfig, RewACTPolicy, make_rewact_pre_post_processors
    from rewact_ros.policy.checkpoint import save_policy

    modes = dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.MEAN_STD)
    config = RewACTConfig(
        vision_backbone="resnet18",
        use_vae=True,
        reward_head="distributional",
        normalization_mapping=modes,
        device="cpu",
        n_encoder_layers=4,
        n_decoder_layers=1,
        **_network(case),
    )
    config.input_features, config.output_features, stats = _features(case)
    torch.manual_seed(0)
    policy = RewACTPolicy(config)
    save_policy(folder, policy, *make_rewact_pre_post_processors(config, stats))


def _network(case: Case) -> dict[str, Any]:
    return {**case.network, "n_action_steps": case.network["chunk_size"]}


def _features(case: Case) -> tuple[dict, dict, dict]:
    import torch
    from lerobot.configs import FeatureType, PolicyFeature

    stats = {
        "observation.state": {"mean": torch.zeros(STATE), "std": torch.ones(STATE)},
        "action": {"mean": torch.zeros(ACTION), "std": torch.ones(ACTION)},
    }
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (STATE,))}
    for camera in range(case.cameras):
        key = f"observation.images.camera{camera}"
        inputs[key] = PolicyFeature(FeatureType.VISUAL, (3, *case.size))
        stats[key] = {"mean": torch.full((3, 1, 1), 0.45), "std": torch.full((3, 1, 1), 0.22)}
    return inputs, {"action": PolicyFeature(FeatureType.ACTION, (ACTION,))}, stats


def _frames(case: Case, count: int = 8) -> list[dict[str, np.ndarray]]:
    """Observations of noise."""
    rng = np.random.default_rng(0)
    return [
        {
            "observation.state": rng.normal(size=STATE).astype(np.float32),
            **{
                f"observation.images.camera{camera}": rng.integers(
                    0, 256, (*case.size, 3), dtype=np.uint8
                )
                for camera in range(case.cameras)
            },
        }
        for _ in range(count)
    ]


def _interleave(
    calls: dict[str, Callable[[dict[str, np.ndarray]], object]],
    frames: list[dict[str, np.ndarray]],
    rounds: int,
) -> dict[str, np.ndarray]:
    """Milliseconds of every call, warm-up rounds left out."""
    times: dict[str, list[float]] = {label: [] for label in calls}
    for turn in range(WARM_UP_ROUNDS + rounds):
        for label, call in calls.items():
            started_s = time.perf_counter()
            call(frames[turn % len(frames)])
            if turn >= WARM_UP_ROUNDS:
                times[label].append(1e3 * (time.perf_counter() - started_s))
    return {label: np.array(values) for label, values in times.items()}


def _add(
    bench: Bench, name: str, times: dict[str, np.ndarray], base: str, goal: float | None
) -> None:
    """Medians, tails, and the ratio of medians over the baseline; the goal is for the best."""
    for label, values in times.items():
        for share in (50, 99):
            value = float(np.percentile(values, share))
            bench.add(f"{name}_{label}_p{share}", value, "ms", n=len(values))
    ratios = {k: float(np.median(times[base]) / np.median(v)) for k, v in times.items()}
    for label, ratio in ratios.items():
        if label != base:
            bench.add(f"{name}_{label}_over_{base}", ratio, "ratio", n=len(times[label]))
    if goal is not None:
        bench.add(f"{name}_best_over_{base}", max(ratios.values()), "ratio", goal=f"≥ {goal:g}")
