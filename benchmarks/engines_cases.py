"""Networks at random, frames of noise and fair timing, for the benchmarks of the engines.

The baseline is LeRobot's `ACTPolicy.predict_action_chunk` with its processors, from the camera's
uint8 pixels to actions in the robot's units. Ours does the same and predicts the reward as well.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import typer

from rewact_ros.bench.figures import Bench

THREADS, STATE, ACTION = 1, 14, 14
WARM_UP_ROUNDS = 3
LEAST_ROUNDS = 20

Frame = dict[str, np.ndarray]
Call = Callable[[Frame], object]


@dataclass(frozen=True)
class Case:
    """A network to serve.

    Attributes:
        name: in figures.
        cameras, size: how many, each (height, width) in pixels.
        goal: the least ratio over LeRobot that is wanted of the fastest engine.
        network: settings of ACT.
    """

    name: str
    cameras: int
    size: tuple[int, int]
    goal: float | None = None
    network: dict[str, Any] = field(default_factory=dict)


SMALL = {"dim_model": 256, "n_heads": 8, "dim_feedforward": 1024, "chunk_size": 20}
FULL = {"dim_model": 512, "n_heads": 8, "dim_feedforward": 3200, "chunk_size": 100}
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


def begin(bench: Bench) -> str:
    """Choose the device and say what runs."""
    device = choose_device(bench)
    bench.settings.update(threads=THREADS, warm_up_rounds=WARM_UP_ROUNDS)
    for package in ("torch", "lerobot", "onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):
            bench.settings[package] = version(package)
    return device


def choose_device(bench: Bench) -> str:
    """The GPU where there is one; its figures have a topic of their own."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        bench.topic += "-gpu"
        bench.settings["gpu"] = torch.cuda.get_device_name()
        bench.settings["cuda"] = torch.version.cuda
    bench.settings["device"] = device
    return device


def load(folder: Path, device: str) -> Any:
    """Open a checkpoint."""
    from rewact_ros.policy.checkpoint import load_policy

    return load_policy(folder, device)


def serve(
    bench: Bench,
    name: str,
    loaded: Any,
    engines: tuple[tuple[str, str], ...],
    frames: list[Frame],
    threads: int = THREADS,
) -> dict[str, Call]:
    """Every engine that runs here, warmed up and checked against torch; records its difference."""
    from rewact_ros.policy.checked_engine import TOLERANCES, CheckedEngine
    from rewact_ros.policy.engines import load_engine
    from rewact_ros.policy.runtimes import EngineError

    calls: dict[str, Call] = {}
    for engine, precision in engines:
        label = f"{engine}_{precision}"
        started_s = time.perf_counter()
        try:
            served = load_engine(loaded, engine, precision, threads, report=typer.echo)
            served.warm_up()
        except EngineError as error:
            typer.echo(f"  {name}: {error}")
            continue
        ready_s = time.perf_counter() - started_s
        if isinstance(served, CheckedEngine):
            settle(served, frames)
            if served.fell_back:
                continue  # it said why
            allowed = TOLERANCES[precision].actions
            worst = served.worst.actions
            bench.add(f"{name}_{label}_difference", worst, "sd", goal=f"≤ {allowed:g}")
        bench.add(f"{name}_{label}_ready", ready_s, "s")
        calls[label] = served.infer
    return calls


def settle(served: Any, frames: list[Frame]) -> None:
    """Let an engine pass its comparisons with torch on the first observations."""
    from rewact_ros.policy.checked_engine import REAL_OBSERVATIONS

    for turn in range(REAL_OBSERVATIONS + 1):
        served.infer(frames[turn % len(frames)])


def lerobot(case: Case, device: str) -> Call:
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
    def call(frame: Frame) -> object:
        batch = {}
        for key, value in frame.items():
            tensor = torch.from_numpy(value).to(target)
            if "images" in key:
                tensor = tensor.float().div(255).permute(2, 0, 1).contiguous()
            batch[key] = tensor.unsqueeze(0)
        return postprocess(policy.predict_action_chunk(preprocess(batch)))

    def call_with_tf32(frame: Frame) -> object:
        """As `lerobot-eval` sets it; ours have it off."""
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return call(frame)
        finally:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    if device == "cpu":
        return call
    torch.backends.cudnn.benchmark = True
    return call_with_tf32


def save_policy_at_random(case: Case, folder: Path) -> None:
    """The same network with a reward head."""
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


def frames_of(loaded: Any, count: int = 8) -> list[Frame]:
    """Observations of noise, the states spread as in training."""
    from rewact_ros.policy.scaling import input_scalings

    rng = np.random.default_rng(0)
    scalings = input_scalings(loaded)

    def draw(key: str) -> np.ndarray:
        shape = loaded.config.input_features[key].shape
        if key in loaded.config.image_features:
            return rng.integers(0, 256, (*shape[1:], 3), dtype=np.uint8)
        spread = rng.normal(size=shape) / scalings[key].factor.numpy()
        return (scalings[key].centre.numpy() + spread).astype(np.float32)

    return [{key: draw(key) for key in loaded.config.input_features} for _ in range(count)]


def interleave(
    calls: dict[str, Call], frames: list[Frame], seconds: float, most: int
) -> dict[str, np.ndarray]:
    """Milliseconds of every call, warm-up left out.

    Each round calls all of them in turn, so that whatever else the machine does falls on all alike.
    There are as many rounds as fit, `LEAST_ROUNDS` at least.
    """
    times: dict[str, list[float]] = {label: [] for label in calls}
    started_s = 0.0
    for turn in range(WARM_UP_ROUNDS + most):
        if turn == WARM_UP_ROUNDS:
            started_s = time.perf_counter()
        spent_s = time.perf_counter() - started_s
        if turn >= WARM_UP_ROUNDS + LEAST_ROUNDS and spent_s > seconds:
            break
        for label, call in calls.items():
            called_s = time.perf_counter()
            call(frames[turn % len(frames)])
            if turn >= WARM_UP_ROUNDS:
                times[label].append(1e3 * (time.perf_counter() - called_s))
    return {label: np.array(values) for label, values in times.items()}


def add_times(bench: Bench, name: str, times: dict[str, np.ndarray]) -> None:
    """Median and tail of every engine."""
    for label, values in times.items():
        for share in (50, 99):
            value = float(np.percentile(values, share))
            bench.add(f"{name}_{label}_p{share}", value, "ms", n=len(values))


def add_ratios(bench: Bench, name: str, times: dict[str, np.ndarray], base: str) -> None:
    """Ratios of medians over a baseline."""
    medians = {label: float(np.median(values)) for label, values in times.items()}
    for label, median in medians.items():
        if label != base:
            ratio = medians[base] / median
            bench.add(f"{name}_{label}_over_{base}", ratio, "ratio", n=len(times[label]))


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
