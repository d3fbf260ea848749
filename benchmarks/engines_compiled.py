"""What `torch.compile` makes of the served network on a GPU, beside LeRobot's ACT and our graph.

A topic of its own, because it compiles for minutes.
"""

import tempfile
from pathlib import Path

import engines_gpu
from engines import CASES, GPU_CASE
from engines_cases import (
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

PRECISION, ROUNDS, SECONDS = "bf16", 300, 30.0


def run(bench: Bench) -> None:
    """Measure the compiled networks of the largest case.

    Raises:
        ValueError: no GPU is here.
    """
    if begin(bench) != "cuda":
        raise ValueError("bench engines-compiled: expected a CUDA device, found none")
    (case,) = (case for case in CASES if case.name == GPU_CASE)
    with tempfile.TemporaryDirectory() as folder:
        save_policy_at_random(case, Path(folder, "policy"))
        loaded = load(Path(folder, "policy"), "cuda")
        frames = frames_of(loaded)
        ours = serve(bench, case.name, loaded, (("torch_cuda_graph", PRECISION),), frames)
        compiled = engines_gpu.compiled(loaded, frames, PRECISION)
        calls = {"lerobot": lerobot(case, "cuda"), **ours, **compiled}
        times = interleave(calls, frames, 3.0 if bench.quick else SECONDS, ROUNDS)
    add_times(bench, case.name, times)
    add_ratios(bench, case.name, times, "lerobot")
    bench.settings |= {"cases": [case.name], "shipped": []}
