"""Several robots on one machine: a policy process each, with threads of its own.

    python benchmarks/engines_robots.py CHECKPOINT ENGINE PRECISION DEVICE

is one robot. It says `ready` when its engine is checked and warm; then it answers every line that
holds a number of seconds with the milliseconds of its inferences in that time, as JSON.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from engines_cases import THREADS, frames_of, load, settle

from rewact_ros.bench.figures import Bench


@dataclass(frozen=True)
class Load:
    """What every robot runs."""

    name: str
    checkpoint: Path
    engine: str
    precision: str


def measure(bench: Bench, what: Load, device: str, counts: tuple[int, ...], seconds: float) -> None:
    """Let 1 to n robots infer without a pause, all at the same time.

    The rate that can be served is the one whose period holds 99 % of the inferences, with all
    robots of that number busy all the time.
    """
    with _robots(what, device, max(counts)) as robots:
        for count in counts:
            # On the first run after a pause the machine is slower.
            _run(robots[:count], 0.5)
            times = np.concatenate(_run(robots[:count], seconds))
            name = f"{what.name}_robots_{count}"
            for share in (50, 99):
                value = float(np.percentile(times, share))
                bench.add(f"{name}_p{share}", value, "ms", n=len(times))
            rate = 1e3 / float(np.percentile(times, 99))
            bench.add(f"{name}_rate", rate, "Hz for each", n=len(times))


@contextlib.contextmanager
def _robots(what: Load, device: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes whose engines are warm."""
    robots: list[subprocess.Popen[str]] = []
    command = [sys.executable, __file__, str(what.checkpoint), what.engine, what.precision, device]
    try:
        for _ in range(count):
            robots.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            # One after the other: the first makes the export that the others take.
            answer = _read(robots[-1])
            if answer != "ready":
                raise RuntimeError(f"{what.name}: a robot's engine failed: {answer or 'it ended'}")
        yield robots
    finally:
        for robot in robots:
            assert robot.stdin is not None and robot.stdout is not None
            robot.stdin.close()
        for robot in robots:
            robot.wait(timeout=30)
            robot.stdout.close()  # type: ignore[union-attr]


def _run(robots: list[subprocess.Popen[str]], seconds: float) -> list[np.ndarray]:
    for robot in robots:
        assert robot.stdin is not None
        robot.stdin.write(f"{seconds}\n")
        robot.stdin.flush()
    return [np.array(json.loads(_read(robot))) for robot in robots]


def _read(robot: subprocess.Popen[str]) -> str:
    assert robot.stdout is not None
    return robot.stdout.readline().strip()


def main() -> None:
    """One robot."""
    from rewact_ros.policy.engines import load_engine

    checkpoint, engine, precision, device = sys.argv[1:]
    loaded = load(Path(checkpoint), device)
    faults: list[str] = []
    served = load_engine(loaded, engine, precision, THREADS, report=faults.append)
    frames = frames_of(loaded)
    served.warm_up()
    settle(served, frames)
    print(faults[0] if faults else "ready", flush=True)
    for line in sys.stdin:
        times, end_s = [], time.perf_counter() + float(line)
        while (started_s := time.perf_counter()) < end_s:
            served.infer(frames[len(times) % len(frames)])
            times.append(1e3 * (time.perf_counter() - started_s))
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
