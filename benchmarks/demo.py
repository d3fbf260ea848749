"""Figures of the closed loop: the demo, the policy's speed, a killed policy, real robot data."""

import json
import os
import random
import signal
import statistics
import time
from pathlib import Path

import numpy as np
import typer

from rewact_ros.bench.figures import Bench
from rewact_ros.contract import load_contract
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.share import share_dir
from rewact_ros.stack.bringup import BringUp, default_contract, default_policy
from rewact_ros.stack.demo import run_demo

ANY_TASK = True  # one that brings a policy
DEMO_SEED = 300_000
# No policy, threshold or setting was chosen on these scenes.
REPORT_SEED = 210_000
KILL_SEED = 400_000
HELD_OUT = range(24, 30)
TRAINED_ON = range(24)


def run(bench: Bench) -> None:
    """Measure everything; `--quick` runs fewer episodes."""
    bench.settings.update(
        demo_seed=DEMO_SEED,
        report_seed=REPORT_SEED,
        kill_seed=KILL_SEED,
        task=bench.task,
        policy=Path(default_policy(bench.task)).name,
    )
    inference(bench)
    demo(bench, "demo", DEMO_SEED, 2 if bench.quick else 10)
    if not bench.quick:
        demo(bench, "unseen", REPORT_SEED, 100)
    killed_policy(bench, 1 if bench.quick else 10)
    real_data(bench)


def inference(bench: Bench) -> None:
    """Milliseconds per observation on one core, alone."""
    from rewact_ros.policy.checkpoint import load_policy
    from rewact_ros.policy.engine import TorchEngine

    contract = load_contract(default_contract(bench.task))
    engine = TorchEngine(load_policy(default_policy(bench.task), "cpu"), threads=1)
    engine.warm_up()
    rng = np.random.default_rng(0)
    observation = {"observation.state": np.zeros(len(contract.state_names), np.float32)}
    for camera in contract.cameras:
        observation[camera.key] = rng.integers(0, 256, camera.shape, dtype=np.uint8)
    times = []
    for _ in range(100 if bench.quick else 500):
        start_s = time.perf_counter()
        engine.infer(observation)
        times.append(1e3 * (time.perf_counter() - start_s))
    period_ms = 1e3 * contract.dt_s
    goal = f"< {period_ms:g}"
    bench.add("inference_p50", float(np.percentile(times, 50)), "ms", goal=goal, n=len(times))
    bench.add("inference_p99", float(np.percentile(times, 99)), "ms", goal=goal, n=len(times))


def demo(bench: Bench, name: str, seed: int, episodes: int) -> None:
    """The whole stack in real time over consecutive scenes."""
    start_s = time.monotonic()
    folder = run_demo(episodes, seed, task=bench.task).folder
    wall_s = time.monotonic() - start_s
    summary = json.loads((folder / "summary.json").read_text())
    n, successes, right = (
        len(summary["episodes"]),
        summary["true_successes"],
        summary["verdicts_right"],
    )
    goal = "≥ 8 of 10" if name == "demo" else "≥ 0.90"
    for key, count, aim in (
        ("true_success", successes, goal),
        ("verdict_right", right, "≥ 9 of 10" if name == "demo" else ""),
    ):
        low, high = wilson_interval(count, n)
        bench.add(f"{name}_{key}", count / n, "share", goal=aim, n=n, low=low, high=high)
    false = sum(e["verdict"] == "success" and e["truth"] != "success" for e in summary["episodes"])
    missed = sum(e["verdict"] != "success" and e["truth"] == "success" for e in summary["episodes"])
    bench.add(f"{name}_false_completions", false, "episodes", n=n)
    bench.add(f"{name}_missed_completions", missed, "episodes", n=n)
    delays = [
        e["detection_delay_s"] for e in summary["episodes"] if e["detection_delay_s"] is not None
    ]
    if delays:
        bench.add(
            f"{name}_detection_delay_p50",
            statistics.median(delays),
            "s",
            n=len(delays),
            low=min(delays),
            high=max(delays),
        )
    for key, t in (
        ("observation_to_command", summary["latency_ms"]),
        ("command_interval", summary["command_interval_ms"]),
    ):
        for p in ("p50", "p95", "p99", "max"):
            bench.add(f"{name}_{key}_{p}", t[p], "ms", n=t["n"])
    bench.add(f"{name}_wall", wall_s, "s", goal="")


def killed_policy(bench: Bench, trials: int) -> None:
    """`kill -9` of the policy in mid-motion: from its last chunk to hil's HOLD."""
    from rewact_ros.msg import ActionChunk, ControlStatus
    from rewact_ros.ros import interfaces as names
    from rewact_ros.stack.commander import Commander

    rng, chunks, delays, resumed = random.Random(0), [], [], 0
    with Commander(
        BringUp(policy=default_policy(bench.task), sim=True, task=bench.task, seed=KILL_SEED)
    ) as robot:
        robot.node.create_subscription(
            ActionChunk,
            names.ACTION_CHUNK,
            lambda m: chunks.append(time.monotonic()),
            names.EVENTS,
        )
        for _ in range(trials):
            robot.policy = None
            robot.wait_until_ready()
            robot.arm()
            task = robot.start("kill test", 60.0)
            robot.wait(lambda: robot.control.mode == ControlStatus.POLICY, 20.0, "policy")
            robot.pause(rng.uniform(0.8, 2.5))
            os.kill(robot.runner.pid("policy"), signal.SIGKILL)
            robot.wait(lambda: robot.control.mode == ControlStatus.HOLD, 10.0, "hold")
            delays.append(1e3 * (time.monotonic() - chunks[-1]))
            task.result(30.0)
            resumed += not robot.control.resume_required
    goal = "≤ 50 + 150 (chunk period + heartbeat limit)"
    bench.add(
        "kill_last_chunk_to_hold_p50",
        statistics.median(delays),
        "ms",
        goal=goal,
        n=trials,
        low=min(delays),
        high=max(delays),
    )
    bench.add("kill_resumed_by_itself", resumed, "trials", goal="0", n=trials)


def real_data(bench: Bench) -> None:
    """Held-out episodes of a real humanoid: error against baselines, progress, swapped inputs."""
    from rewact_ros.data.dataset.episodes import RecordedEpisodes
    from rewact_ros.learning.evaluation.open_loop import evaluate_episode, mean_action
    from rewact_ros.policy.checkpoint import load_policy
    from rewact_ros.policy.engine import TorchEngine

    data = Path(os.environ.get("REWACT_DATA", share_dir().parent / "shared" / "data")) / "g1_bottle"
    if not data.is_dir():
        typer.echo(f"  real robot data: skipped, no data set at {data} (set REWACT_DATA)")
        return
    contract = load_contract(share_dir() / "config" / "robots" / "g1.yaml")
    recorded = RecordedEpisodes(data, contract)
    engine = TorchEngine(load_policy(share_dir() / "models" / "g1_bottle", "cpu"), threads=1)
    constant = mean_action(recorded, list(TRAINED_ON))
    episodes = list(HELD_OUT)[: 1 if bench.quick else None]
    rows = [evaluate_episode(engine, contract, recorded, i, constant) for i in episodes]

    def add(name: str, field: str, unit: str, goal: str = "") -> None:
        values = [getattr(row, field) for row in rows]
        bench.add(
            name,
            float(np.mean(values)),
            unit,
            goal=goal,
            n=len(rows),
            low=min(values),
            high=max(values),
        )

    add("g1_action_l1", "l1", "rad or share", "below both baselines")
    add("g1_action_l1_hold_state", "l1_hold", "rad or share")
    add("g1_action_l1_mean_action", "l1_mean", "rad or share")
    add("g1_progress_spearman", "spearman", "", "≥ 0.9")
    add("g1_action_l1_other_image", "l1_other_image", "rad or share")
    add("g1_action_l1_other_state", "l1_other_state", "rad or share")
    add("g1_swapped_spearman_state_time", "spearman_state_time", "")
    add("g1_swapped_spearman_image_time", "spearman_image_time", "")
    draw(rows, bench.folder / "g1_progress.png")


def draw(rows: list, path: Path) -> None:
    """Predicted progress over time of the held-out episodes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for row in rows:
        axes.plot(np.linspace(0, 1, row.frames), row.progress, label=f"episode {row.episode}")
    axes.plot([0, 0.05, 0.95, 1], [0, 0, 1, 1], "k--", label="label")
    axes.set(xlabel="share of the episode's time", ylabel="predicted progress", ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)
