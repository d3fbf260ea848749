"""How inference scales: cameras, image size, chunk, size of the policy, robots on one machine.

One axis at a time, weights at random, a thread for each policy. Robots are policy processes of
their own, as they would be run, all busy at the same time.
"""

import tempfile
from pathlib import Path

import engines_robots
from engines_cases import (
    FULL,
    SMALL,
    Case,
    add_times,
    begin,
    frames_of,
    interleave,
    load,
    save_policy_at_random,
    serve,
)

from rewact_ros.bench.figures import Bench
from rewact_ros.share import share_dir

# (policy, cameras, (height, width), chunk)
POINTS = (
    ("small", 1, (96, 96), 20),
    ("small", 2, (96, 96), 20),
    ("small", 4, (96, 96), 20),
    ("full", 2, (96, 96), 20),
    ("full", 2, (96, 96), 50),
    ("full", 2, (96, 96), 100),
    ("full", 1, (240, 320), 100),
    ("full", 2, (240, 320), 100),
    ("full", 3, (240, 320), 100),
    ("full", 4, (240, 320), 100),
    ("full", 2, (480, 640), 100),
)
NETWORKS = {"small": SMALL, "full": FULL}
ROBOTS, ROBOTS_CASE = (1, 2, 3, 4), Case("full_1x480x640_chunk100", 1, (480, 640), None, FULL)
CPU = (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
GPU = (("torch", "bf16"), ("torch_cuda_graph", "bf16"))
ROUNDS = 100


def run(bench: Bench) -> None:
    """Measure the points, then the robots."""
    device = begin(bench)
    engines = GPU if device == "cuda" else CPU
    points = POINTS[:2] if bench.quick else POINTS
    seconds = 2.0 if bench.quick else 6.0
    bench.settings["points"] = []
    for policy, cameras, size, chunk in points:
        name = f"{policy}_{cameras}x{size[0]}x{size[1]}_chunk{chunk}"
        case = Case(name, cameras, size, None, {**NETWORKS[policy], "chunk_size": chunk})
        with tempfile.TemporaryDirectory() as folder:
            save_policy_at_random(case, Path(folder, "policy"))
            loaded = load(Path(folder, "policy"), device)
            frames = frames_of(loaded)
            calls = serve(bench, name, loaded, engines, frames)
            add_times(bench, name, interleave(calls, frames, seconds, ROUNDS))
        bench.settings["points"].append(name)
    robots(bench, device)


def robots(bench: Bench, device: str) -> None:
    """The shipped policy with what `auto` chooses; a full ACT in half precision where there is."""
    counts = ROBOTS[:2] if bench.quick else ROBOTS
    if device == "cuda":
        counts = (1, 4)  # a GPU is lent for minutes
    seconds = 2.0 if bench.quick else 5.0
    shipped = share_dir() / "models" / "vx300s_pick_place"
    what = engines_robots.Load("vx300s_pick_place", shipped, "auto", "fp32")
    engines_robots.measure(bench, what, device, counts, seconds)
    bench.settings["robots"] = {what.name: "auto fp32"}
    if bench.quick:
        return
    from rewact_ros.policy.runtimes import is_installed, openvino_computes

    half = device == "cuda" or (is_installed("openvino") and openvino_computes("bf16"))
    precision = "bf16" if half else "fp32"
    with tempfile.TemporaryDirectory() as folder:
        save_policy_at_random(ROBOTS_CASE, Path(folder, "policy"))
        what = engines_robots.Load(ROBOTS_CASE.name, Path(folder, "policy"), "auto", precision)
        engines_robots.measure(bench, what, device, counts, seconds)
    bench.settings["robots"][what.name] = f"auto {precision}"
