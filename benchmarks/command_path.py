"""Figures of the command path: how even and how costly hil's loop is, how smooth a handover."""

import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rewact_ros import strict_yaml
from rewact_ros.bench.figures import Bench
from rewact_ros.contract import Contract, load_contract
from rewact_ros.contract.frames import NANO
from rewact_ros.control.chunks import Chunk
from rewact_ros.control.modes import Mode
from rewact_ros.control.path import CommandPath
from rewact_ros.control.watch import Now
from rewact_ros.msg import ControlStatus
from rewact_ros.stack.bringup import default_contract, default_policy
from rewact_ros.stack.rig_stack import Setup, cpu_seconds, memory_mb, robot

PRIORITY = 50
SPIN = "while True: pass"
WARM_UP_S = 2.0


def run(bench: Bench) -> None:
    """Interval and cost with and without priority, then handovers; `--quick` is shorter."""
    seconds = 8.0 if bench.quick else 60.0
    trials = 40 if bench.quick else 200
    bench.settings.update(
        seconds=seconds,
        neighbours="the policy at 20 Hz and a busy loop",
        priority=PRIORITY,
        seed=0,
    )
    for name, priority, goal in (("priority", PRIORITY, "≤ 1"), ("no_priority", 0, "≤ 3")):
        add_interval(bench, name, measure_loop(seconds, priority, busy=True), goal)
    quiet = measure_loop(seconds, 0, busy=False)
    bench.add("hil_cpu", quiet.cpu_share * 100, "% of a core", goal="≤ 10")
    bench.add("hil_memory", quiet.memory_mb, "MB")
    for align in ("offset", "ramp"):
        add_handovers(bench, align, trials)


# The loop ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoopFigures:
    """One measurement of hil: |interval - period| of its commands in ms (N,), and its cost."""

    deviation_ms: np.ndarray
    cpu_share: float
    memory_mb: float
    missed_ticks: int


def measure_loop(seconds: float, priority: int, busy: bool) -> LoopFigures:
    """Run hil in POLICY at its command rate; `busy`: beside the policy and a busy loop.

    Intervals are taken from the time at which hil handed each command to the middleware. Where a
    real policy runs it has its camera pictures, but the chunks on the wire are its own, so the arm
    may stand; otherwise the rig plays the policy.
    """
    plays = ("joints", "cameras", "supervisor") if busy else ("joints", "policy", "supervisor")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        params = folder / "params.yaml"
        # Long time limits: what is measured is the loop, not whether a busy machine trips it.
        params.write_text(
            f"/**/hil:\n  ros__parameters:\n    priority: {priority}\n    lease_timeout_s: 5.0\n"
        )
        contract = folder / "contract.yaml"
        contract.write_text(patient_contract())
        setup = Setup(str(contract), str(params), default_policy())
        runs = ("hil", "policy") if busy else ("hil",)
        bot = stack.enter_context(robot(setup, plays, runs))
        rig = bot.rig
        if busy:
            rig.wait_for_policy()
        rig.run_policy(moving=not busy)
        if busy:
            spinner = subprocess.Popen([sys.executable, "-S", "-c", SPIN])
            stack.callback(spinner.wait)
            stack.callback(spinner.kill)
        rig.pause(WARM_UP_S)
        pid, first = bot.runner.pid("hil"), len(rig.sent_ns)
        missed, cpu_s, start_s = rig.status.late_ticks, cpu_seconds(pid), time.monotonic()
        rig.pause(seconds)
        share = (cpu_seconds(pid) - cpu_s) / (time.monotonic() - start_s)
        assert rig.status.mode == ControlStatus.POLICY, rig.status.reason
        intervals_ms = np.diff(np.array(rig.sent_ns[first:])) / 1e6
        period_ms = 1e3 / rig.contract.command_rate_hz
        return LoopFigures(
            np.abs(intervals_ms - period_ms),
            share,
            memory_mb(pid),
            rig.status.late_ticks - missed,
        )


def patient_contract() -> str:
    """The simulated arm's contract with long age limits."""
    data: dict[str, Any] = strict_yaml.load(default_contract())
    for key, value in data.items():
        if key.startswith("observation"):
            value["max_age_s"] = 2.0
    data.update(heartbeat_timeout_s=2.0, max_chunk_age_s=2.0)
    return str(yaml.safe_dump(data, sort_keys=False))


def add_interval(bench: Bench, name: str, figures: LoopFigures, goal: str) -> None:
    """Percentiles of the deviation of the command interval from its period."""
    deviation, n = figures.deviation_ms, len(figures.deviation_ms)
    bench.add(f"{name}_interval_deviation_p50", float(np.percentile(deviation, 50)), "ms", n=n)
    p99 = float(np.percentile(deviation, 99))
    bench.add(f"{name}_interval_deviation_p99", p99, "ms", goal=goal, n=n)
    bench.add(f"{name}_interval_deviation_max", float(deviation.max()), "ms", n=n)
    bench.add(f"{name}_late_ticks", figures.missed_ticks, "ticks", n=n)
    bench.add(f"{name}_hil_cpu", figures.cpu_share * 100, "% of a core")


# Handover ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """Largest step of position and of velocity around one change of hands, as shares of limits."""

    position: float
    velocity: float


def add_handovers(bench: Bench, align: str, trials: int) -> None:
    """Take over and release at random moments of random motions; the worst step of all trials."""
    contract = load_contract(default_contract())
    contract = replace(
        contract, teleop=tuple(replace(source, align=align) for source in contract.teleop)
    )
    rng = np.random.default_rng(0)
    results = [handover(contract, rng) for _ in range(trials)]
    for i, moment in enumerate(("takeover", "release")):
        for kind in ("position", "velocity"):
            values = [getattr(steps[i], kind) for steps in results]
            bench.add(
                f"{align}_{moment}_{kind}_step",
                max(values),
                f"of the {'velocity' if kind == 'position' else 'acceleration'} limit",
                goal="≤ 1",
                n=trials,
                low=min(values),
                high=max(values),
            )


def handover(contract: Contract, rng: np.random.Generator) -> tuple[Steps, Steps]:
    """One trial in process, at 100 Hz: policy, then a leader arm elsewhere, then the policy again.

    Returns the steps within 0.1 s + `handover_s` of takeover and release.
    """
    path, leader = CommandPath(contract), contract.teleop_source("leader")
    assert contract.reset is not None
    home, joints = np.array(contract.reset.pose), len(contract.action_names)
    phases, rates = rng.uniform(0, 2 * np.pi, (2, joints)), rng.uniform(1.0, 4.0, (2, joints))
    apart = rng.uniform(-0.05, 0.05, joints) * (np.arange(joints) < joints - 1)
    amplitude = 0.06 * (np.arange(joints) < joints - 1)

    def pose(who: int, t_s: float) -> np.ndarray:
        return home + who * apart + amplitude * np.sin(phases[who] + rates[who] * t_s)

    take_s = rng.uniform(1.0, 2.0)
    give_s = take_s + rng.uniform(0.8, 2.0)
    dt_s, sent, modes = 1.0 / contract.command_rate_hz, [], []
    device = path.human.inputs["leader"]
    measured = pose(0, 0.0)
    for tick in range(round((give_s + 1.5) / dt_s)):
        t_s = tick * dt_s
        now = Now(t_s, t_s, NANO + round(t_s * NANO))
        path.joints.take(measured, t_s)
        path.heartbeat.take("", now)
        path.on_request(Mode.POLICY, "bench", 1, now)
        path.arm(now)
        device.on_deadman(take_s <= t_s < give_s, t_s)
        if tick % 2 == 0:
            values = (pose(1, t_s)[device.joints] - leader.offset) / np.array(leader.scale)
            device.on_values(leader.source_joints, values.tolist(), t_s)
        if tick % 5 == 0:
            rows = np.stack([pose(0, t_s + k * contract.dt_s) for k in range(20)])
            path.on_chunk(Chunk(now.ros_ns, path.epoch, rows, contract.dt_s), now)
        command = path.step(now)
        if path.mode is Mode.HOLD:
            path.resume()
        measured = measured if command is None else command
        sent.append(measured)
        modes.append(path.mode)
    assert Mode.HUMAN in modes, path.modes.reason
    assert path.mode is Mode.POLICY, path.modes.reason
    return tuple(_steps(np.stack(sent), contract, t) for t in (take_s, give_s))  # type: ignore[return-value]


def _steps(sent: np.ndarray, contract: Contract, moment_s: float) -> Steps:
    dt_s, limits = 1.0 / contract.command_rate_hz, contract.limits
    first = int(moment_s / dt_s) - 3
    last = first + round((contract.handover_s + 0.1) / dt_s)
    velocity = np.diff(sent[first:last], axis=0) / dt_s
    acceleration = np.diff(velocity, axis=0) / dt_s
    return Steps(
        float((np.abs(velocity) / limits.velocity).max()),
        float((np.abs(acceleration) / limits.acceleration).max()),
    )
