#!/usr/bin/env python3
"""All that only a GPU can tell, in one go on a machine that is lent for minutes.

    python benchmarks/gpu_session.py --out FOLDER [--minutes 9] [--only tests,engines] [--dry-run]
    python benchmarks/gpu_session.py --keep FOLDER

The first needs Python 3.12, torch with CUDA, LeRobot with what it reads data sets by, pydantic and,
for the last stages, MuJoCo and gym-aloha, no ROS; `throughput` reads the G1's recordings below
REWACT_DATA. What else runs at the same time decides the figures: nothing should. Each stage is a
process with a time limit, so that one that fails or hangs costs only itself. A stage that FOLDER
says has passed is not run again. FOLDER gets at most eight files: what every stage came to, the
figures, and the logs as one archive.

The second puts the figures of FOLDER into docs/results and writes docs/performance.md anew.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE, LOGS = "gpu_session.json", "logs.tar.gz"
MEASURED = Path("runs/bench")  # where `rewact bench` writes
SHOWN_LINES = 12  # of the log of a stage that did not pass
# TensorRT's engines are not measured: its wheels, and those of ONNX Runtime for a GPU, are larger
# than what can be taken to a lent machine.
NOT_MEASURED = "TensorRT: not measured, its wheels are too large to bring along"


@dataclass(frozen=True)
class Stage:
    """One process.

    Attributes:
        name: of the stage.
        command: arguments of this Python.
        limit_s: after so long it is killed.
        least_s: with less time left it is not begun.
        figures: topic of the figures that it measures; empty: none.
        needs: stage whose files it reads; empty: none.
        makes: folder that it leaves for others, which a fresh machine has not; empty: none.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float
    least_s: float
    figures: str = ""
    needs: str = ""
    makes: str = ""


@dataclass(frozen=True)
class Result:
    """What became of a stage: ``passed``, ``failed``, ``too slow`` or ``no time``."""

    name: str
    state: str
    seconds: float
    command: str
    code: int | None = None


def stages(dry_run: bool, demos: Path, run: Path) -> list[Stage]:
    """The stages in the order of what they are worth.

    Args:
        dry_run: the smallest sizes, for a machine without a GPU.
        demos: folder of demonstrations to record for the last ones.
        run: folder of the learning run.
    """
    chosen = "cuda or gpu or graph"
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=100", "-k", chosen)
    tests = ("test/test_gpu.py", "test/test_engines.py", "test/test_checkpoint.py")
    quick = ("--quick",) if dry_run else ()
    scenes, episodes, sizes = ("1", "1", ("--set", "batch_size=8")) if dry_run else ("10", "40", ())

    def bench(topic: str, limit_s: float, least_s: float, needs: str = "") -> Stage:
        command = ("-m", "rewact_ros.cli", "bench", topic, *quick)
        return Stage(topic, command, limit_s, least_s, topic, needs)

    record = ("demos", "--out", str(demos), "--episodes", scenes, "--retries", "0")
    record += ("--failures", "0", "--workers", "1" if dry_run else "8")
    learn = ("learn", "--sim", "--fast", "--algorithm", "act_sac", "--out", str(run), *sizes)
    learn += ("--demos", str(demos), "--demo-episodes", scenes, "--episodes", episodes)
    learn += ("--eval-every", "0", "--video-every", "0")
    plan = [
        Stage("tests", (*pytest, *tests), 150, 30),
        bench("engines", 210, 60),
        bench("throughput", 180, 90),
        Stage("demos", ("-m", "rewact_ros.cli", *record), 90, 30, makes=str(demos)),
        bench("hil-serl-cost", 150, 110, needs="demos"),
        bench("scaling", 150, 60),
        bench("engines-compiled", 300, 200),
        Stage("learn", ("-m", "rewact_ros.cli", *learn), 400, 60, needs="demos"),
    ]
    # A CPU takes its time, and a dry run asks only whether a stage gets to its end.
    return [replace(s, limit_s=5 * s.limit_s) for s in plan] if dry_run else plan


def run(plan: Sequence[Stage], out: Path, budget_s: float, cwd: Path = ROOT) -> list[Result]:
    """Run the stages that have not passed before, as long as there is time.

    After each one ``out`` is whole, so that whoever ends this early loses the stage that runs.
    """
    out.mkdir(parents=True, exist_ok=True)
    logs = cwd / "runs" / "gpu_session"
    logs.mkdir(parents=True, exist_ok=True)
    results = {result.name: result for result in _earlier(out)}
    end_s = time.monotonic() + budget_s
    for stage in plan:
        passed = stage.name in results and results[stage.name].state == "passed"
        if passed and (cwd / stage.makes).exists():
            continue
        left_s = end_s - time.monotonic()
        if left_s < stage.least_s:
            results[stage.name] = Result(stage.name, "no time", 0.0, shlex.join(stage.command))
        else:
            log = logs / f"{stage.name}.log"
            results[stage.name] = _run(stage, min(stage.limit_s, left_s), log, cwd)
        _collect(stage, list(results.values()), out, logs, cwd)
    return [results[stage.name] for stage in plan]


def _earlier(out: Path) -> list[Result]:
    file = out / TABLE
    if not file.is_file():
        return []
    return [Result(**result) for result in json.loads(file.read_text())["stages"]]


def _run(stage: Stage, limit_s: float, log: Path, cwd: Path) -> Result:
    """Run a stage to its end, or kill it with all that it started."""
    print(f"{stage.name}: at most {limit_s:.0f} s", flush=True)
    began_s = time.monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, *stage.command],
            cwd=cwd,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=limit_s)
            state = "failed" if code else "passed"
        except subprocess.TimeoutExpired:
            code, state = None, "too slow"
        finally:  # also where this one is interrupted
            _kill(process)
    seconds = round(time.monotonic() - began_s, 1)
    print(f"{stage.name}: {state} after {seconds:.0f} s", flush=True)
    return Result(stage.name, state, seconds, shlex.join(stage.command), code)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a stage's own session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    given = {
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "120",
    }
    return {"MUJOCO_GL": "egl", **os.environ, **given}


def _collect(stage: Stage, results: list[Result], out: Path, logs: Path, cwd: Path) -> None:
    """Bring table, logs and the stage's figures, whole or not, to ``out``."""
    rows = [asdict(result) for result in results]
    (out / TABLE).write_text(json.dumps({"stages": rows, "note": NOT_MEASURED}, indent=2) + "\n")
    with tarfile.open(out / LOGS, "w:gz") as archive:
        archive.add(logs, arcname="logs")
    for topic in (stage.figures, f"{stage.figures}-gpu"):
        file = cwd / MEASURED / f"{topic}.json"
        if stage.figures and file.is_file():
            shutil.copy(file, out)


def show(results: Sequence[Result], logs: Path) -> None:
    """Print how the stages ended, and the ends of the logs of those that did not pass."""
    for result in results:
        log = logs / f"{result.name}.log"
        if result.state in ("failed", "too slow") and log.is_file():
            lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
            print(f"--- {result.name}", *(line[:300] for line in lines), sep="\n")
    print(f"\n{'stage':18} {'state':9} {'s':>6}")
    for result in results:
        print(f"{result.name:18} {result.state:9} {result.seconds:6.0f}")
    print(NOT_MEASURED, flush=True)


def keep(out: Path) -> None:
    """Publish the figures of a GPU that a session measured."""
    from rewact_ros.bench.results import publish

    files = sorted(out.glob("*-gpu.json"))
    if not files:
        raise SystemExit(f"{out}: no figures of a GPU (*-gpu.json); give a session's --out")
    for file in files:
        for written in publish(json.loads(file.read_text()), ROOT / "docs"):
            print(f"written: {written}")


def main() -> int:
    """The command; returns 1 where a stage did not pass."""
    about, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all stages")
    parser.add_argument("--only", default="", help="names of stages, separated by commas")
    parser.add_argument("--dry-run", action="store_true", help="the smallest sizes, on a CPU")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="publish a session's figures")
    asked = parser.parse_args()
    if asked.keep:
        keep(asked.keep)
        return 0
    if not asked.out:
        parser.error("--out: expected a folder for the results")
    plan = stages(asked.dry_run, Path("datasets/vx300s_demos"), Path("runs/gpu_session/learn"))
    wanted = [name for name in asked.only.split(",") if name]
    unknown = set(wanted) - {stage.name for stage in plan}
    if unknown:
        names = ", ".join(stage.name for stage in plan)
        parser.error(f"--only: expected some of {names}, got {', '.join(sorted(unknown))}")
    wanted += [stage.needs for stage in plan if stage.name in wanted]
    plan = [stage for stage in plan if not wanted or stage.name in wanted]
    results = run(plan, asked.out.resolve(), 60 * asked.minutes)
    show(results, ROOT / "runs" / "gpu_session")
    return int(any(result.state != "passed" for result in results))


if __name__ == "__main__":
    sys.exit(main())
