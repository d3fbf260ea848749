"""Engines beside LeRobot's own ACT: the same network, the same frames, one call after the other.

On a GPU also where the time goes, and how often 1 and 4 robots can be served. What `torch.compile`
makes of the network is in `engines_compiled`, since it takes minutes.
"""

import tempfile
from pathlib import Path
from typing import Any

import engines_robots
import numpy as np
from engines_cases import (
    CPU_ENGINES,
    FULL,
    GPU_ENGINES,
    SMALL,
    Case,
    Frame,
    add_ratios,
    add_times,
    begin,
    frames_of,
    interleave,
    lerobot,
    load,
    save_policy_at_random,
    serve,
)

from rewact_ros.bench.figures import Bench
from rewact_ros.share import share_dir

CASES = (
    Case("small_96x96", 1, (96, 96), 4.0, SMALL),
    Case("act_480x640", 1, (480, 640), 3.0, FULL),
    Case("act_2x480x640", 2, (480, 640), None, FULL),
)
SHIPPED = ("vx300s_pick_place", "g1_bottle")
GPU_CASE, GPU_GOAL, GPU_P99_MS = "act_2x480x640", 3.0, 3.0
SECONDS, QUICK_SECONDS, ROUNDS = 100.0, 3.0, 300


def run(bench: Bench) -> None:
    """Measure every network on every engine of this machine."""
    device = begin(bench)
    engines = GPU_ENGINES if device == "cuda" else CPU_ENGINES
    cases = CASES[:1] if bench.quick else CASES
    seconds = QUICK_SECONDS if bench.quick else SECONDS
    bench.settings["goal"] = "of the fastest engine: ratio of medians over LeRobot's ACT"
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            measure(bench, case, engines, device, seconds, Path(folder, "policy"))
    for name in SHIPPED:
        shipped(bench, name, engines, device, seconds)
    bench.settings["cases"] = [case.name for case in cases]
    bench.settings["shipped"] = list(SHIPPED)


def measure(
    bench: Bench,
    case: Case,
    engines: tuple[tuple[str, str], ...],
    device: str,
    seconds: float,
    folder: Path,
) -> None:
    """One network: LeRobot's ACT and ours of the same size on every engine."""
    save_policy_at_random(case, folder)
    loaded = load(folder, device)
    frames = frames_of(loaded)
    ours = serve(bench, case.name, loaded, engines, frames)
    calls = {"lerobot": lerobot(case, device), **ours}
    times = interleave(calls, frames, seconds, ROUNDS)
    add_times(bench, case.name, times)
    add_ratios(bench, case.name, times, "lerobot")
    best = min(ours, key=lambda label: float(np.median(times[label])))
    goal = case.goal
    if device == "cuda" and case.name == GPU_CASE:
        goal = GPU_GOAL
        p99 = float(np.percentile(times[best], 99))
        bench.add(f"{case.name}_best_p99", p99, "ms", goal=f"≤ {GPU_P99_MS:g}", n=len(times[best]))
        on_gpu(bench, case.name, loaded, frames, best)
    if goal is not None:
        ratio = bench.figures[f"{case.name}_{best}_over_lerobot"].value
        bench.add(f"{case.name}_best_over_lerobot", ratio, "ratio", goal=f"≥ {goal:g}")
        bench.settings[f"{case.name}_best"] = best


def shipped(
    bench: Bench, name: str, engines: tuple[tuple[str, str], ...], device: str, seconds: float
) -> None:
    """A shipped policy, whose backbone LeRobot has not: beside its own eager run."""
    loaded = load(share_dir() / "models" / name, device)
    frames = frames_of(loaded)
    calls = serve(bench, name, loaded, engines, frames)
    times = interleave(calls, frames, min(seconds, 20.0), ROUNDS)
    add_times(bench, name, times)
    add_ratios(bench, name, times, "torch_fp32")


def on_gpu(bench: Bench, name: str, loaded: Any, frames: list[Frame], best: str) -> None:
    """Stages of one inference, and how often 1 and 4 robots can be served."""
    import engines_gpu

    precision = best.rpartition("_")[-1]
    engines_gpu.stages(bench, name, loaded, frames, precision, rounds=200)
    what = engines_robots.Load(name, loaded.path, "torch_cuda_graph", precision)
    engines_robots.measure(bench, what, loaded.config.device, (1, 4), seconds=5.0)
    bench.settings["robots"] = {name: f"torch_cuda_graph {precision}"}
