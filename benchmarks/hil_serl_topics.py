"""Figures of a whole learning run over ROS topics, and of what came of it on the real nodes.

The same algorithm, base, demonstrations, training scenes and number of episodes as the arm `full`
of `hil_serl.py`; simulation, policy, hil, supervisor, scripted human, transitions and learner are
processes of their own. The simulation is slowed down, so that two cores carry all of them. The run
is kept in `runs/bench/hil_serl_topics` and goes on where it was killed.

`--quick` learns from two episodes of the shipped policy.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

from hil_serl import REPORT_SEED, add_successes, reported, results
from hil_serl_stack import learning, takeovers, wait_for_end
from recording_dagger import COLLECT_SEED, DEMO_COUNT, DEMOS, train_base

from rewact_ros.bench.figures import Bench
from rewact_ros.contract import load_contract
from rewact_ros.learning.rl.evaluation import evaluate_version
from rewact_ros.learning.rl.journal import Journal
from rewact_ros.runs import NEWEST, VERSIONS
from rewact_ros.stack.bringup import default_contract, default_policy
from rewact_ros.stack.demo import run_demo

EPISODES, SPEED = 120, 0.5
STACK_EPISODES = 40  # driven in real time


def run(bench: Bench) -> None:
    """Learn over topics, then drive unseen scenes alone, on the fast path and on the nodes."""
    bench.settings |= {
        "demonstrations": DEMO_COUNT,
        "first_training_scene": COLLECT_SEED,
        "first_reported_scene": REPORT_SEED,
        "simulated_seconds_per_second": SPEED,
    }
    if bench.quick:
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            _measure(bench, Path(folder), Path(default_policy()))
    else:
        base = train_base(Path("runs/bench/dagger/base"), 1000)
        _measure(bench, bench.folder / "hil_serl_topics", base)


def _measure(bench: Bench, folder: Path, base: Path) -> None:
    out = folder / "learn"
    _learn(bench, out, base)
    _training(bench, out)
    version = (out / VERSIONS / NEWEST).resolve()
    driven = evaluate_version(version, default_contract(), reported(bench))
    results(bench, folder / "report.json", "fast_path", "", driven)
    _on_nodes(bench, folder / "nodes", version)
    _on_nodes(bench, folder / "base", base)


def _learn(bench: Bench, out: Path, base: Path) -> None:
    """120 episodes; wall time is that of the last start."""
    done = out.parent / "done.json"
    if not done.exists():
        options = {
            "policy": base,
            "demos": DEMOS,
            "demo_episodes": 2 if bench.quick else DEMO_COUNT,
            "episodes": 2 if bench.quick else EPISODES,
            "first_seed": COLLECT_SEED,
            "speed": SPEED,
            "out": out,
        }
        flags = ("--resume",) if (out / "journal").exists() else ()
        begun_s = time.monotonic()
        with learning(options, {}, flags) as process:
            wait_for_end(process, out)
        done.write_text(json.dumps({"wall_min": (time.monotonic() - begun_s) / 60}) + "\n")
    bench.add("learning_wall", json.loads(done.read_text())["wall_min"], "min")


def _training(bench: Bench, out: Path) -> None:
    """What the run itself cost, and how its verdicts were."""
    lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    journal = Journal(out / "journal")
    steps = human_steps = 0
    for transition in journal.read():
        steps += len(transition)
        human_steps += len(transition) * transition.human
    journal.close()
    helped = takeovers(out / "journal")
    counts = [helped.get(line["episode"], 0) for line in lines]
    third = max(len(lines) // 3, 1)
    for when, some in (("first", counts[:third]), ("last", counts[-third:])):
        name = f"learning_interventions_{when}_third"
        bench.add(name, statistics.mean(some), "per episode", n=len(some))
    right = sum(line["success"] == line["truth"] for line in lines)
    bench.add("learning_verdict_right", right / len(lines), "share", n=len(lines))
    step_min = load_contract(default_contract()).dt_s / 60
    bench.add("learning_robot", steps * step_min, "min")
    bench.add("learning_human", human_steps * step_min, "min")


def _on_nodes(bench: Bench, folder: Path, policy: Path) -> None:
    """The whole stack in real time, alone; the supervisor's verdict ends an episode."""
    if not (folder / "summary.json").exists():
        run_demo(1 if bench.quick else STACK_EPISODES, REPORT_SEED, str(policy), out=str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    episodes = summary["episodes"]
    driven = [(e["truth"] == "success", e["duration_s"]) for e in episodes]
    add_successes(bench, folder.name, driven)
    right, n = summary["verdicts_right"], len(episodes)
    bench.add(f"{folder.name}_verdict_right", right / n, "share", n=n)
    for p in ("p50", "p99"):
        latency = summary["latency_ms"]
        bench.add(f"{folder.name}_observation_to_command_{p}", latency[p], "ms", n=latency["n"])
