"""What learning costs: parameters, time per update and per decision, of each algorithm and actor.

Two ratios compare the ACT actor with the small network in the same run, case after case in turn.
It learns on the GPU where there is one. `--quick` repeats less.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from engines_cases import choose_device
from recording_dagger import DEMOS

from rewact_ros.bench.figures import Bench
from rewact_ros.episodes.rollout_dataset import simulation
from rewact_ros.learning.rl.driver import Driver
from rewact_ros.learning.rl.journal import Journal
from rewact_ros.learning.rl.learner import Learner
from rewact_ros.learning.rl.run import LearningRun
from rewact_ros.learning.rl.run_settings import RunSettings
from rewact_ros.learning.rl.settings import RLSettings, preset
from rewact_ros.stack.bringup import default_contract, default_policy

UPDATES, STEPS, WARM_UP = 30, 200, 3
COMPLETION = 0.9
# As the presets have it but for the buffers, whose size no update notices.
SMALL = {"online_buffer_capacity": 4_000, "offline_buffer_capacity": 4_000}
CASES = {
    "residual": preset("residual", **SMALL),
    "act_sac_small_actor": preset("act_sac", use_act_actor=False, **SMALL),
    "act_sac_act_anew": preset("act_sac", act_from_base=False, **SMALL),
    "act_sac_act_from_base": preset("act_sac", **SMALL),
    "q_chunking": preset("q_chunking", **SMALL),
}
COMPARED = ("act_sac_act_from_base", "act_sac_small_actor")


@dataclass
class Case:
    """One agent, and what was measured of it, in ms."""

    run: LearningRun
    driver: Driver
    update_ms: list[float] = field(default_factory=list)
    decision_ms: list[float] = field(default_factory=list)
    time_s: float = 0.0  # of the last observation


def run(bench: Bench) -> None:
    """Measure every case in turn, so that whatever else the machine does hits all alike."""
    device = choose_device(bench)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    updates, steps = (2, 8) if bench.quick else (UPDATES, STEPS)
    bench.settings |= {"threads": 1, "updates": updates, "steps": steps}
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            cases = {
                name: stack.enter_context(_opened(Path(folder) / name, settings, device))
                for name, settings in CASES.items()
            }
            for _ in range(updates + WARM_UP):
                for case in cases.values():
                    _update(case)
            _decide(cases, steps)
            for name, case in cases.items():
                _report(bench, name, case)
    finally:
        torch.set_num_threads(threads)
    for what in ("update_ms", "decision_ms"):
        act, small = (getattr(cases[name], what)[WARM_UP:] for name in COMPARED)
        ratios = [s / a for a, s in zip(act, small, strict=True)]
        name = f"act_actor_{what.removesuffix('_ms')}_rate_over_small_actor"
        bench.add(name, statistics.median(ratios), "ratio", n=len(ratios))


@contextlib.contextmanager
def _opened(folder: Path, settings: RLSettings, device: str) -> Iterator[Case]:
    """A run of the shipped policy with a demonstration, which is its own episode as well."""
    run = LearningRun(
        RunSettings(
            out=str(folder),
            policy=default_policy(),
            contract=default_contract(),
            rl=settings,
            demos=str(DEMOS),
            demo_episodes=1,
            device=device,
        ),
        resume=False,
    )
    try:
        run.restore(COMPLETION)
        demos = Journal(folder / "demos")
        for transition in demos.read():
            run.learner.add(transition)
        demos.close()
        run.learner.counts.updates = settings.critic_warmup_updates  # the actor learns from there
        yield Case(run, Driver(settings, run.base, run.agent))
    finally:
        run.close()


def _update(case: Case) -> None:
    """An update of the critic, and of actor and temperature in their turn."""
    learner: Learner = case.run.learner
    begun_s = time.perf_counter()
    for _ in range(learner.settings.policy_update_freq):  # so that each turn has an actor's
        learner.update()
    passed_s = time.perf_counter() - begun_s
    case.update_ms.append(passed_s * 1e3 / learner.settings.policy_update_freq)


def _decide(cases: dict[str, Case], steps: int) -> None:
    """A scene that stands still; the base's own inference is not counted."""
    for case in cases.values():
        case.run.agent.eval()
    with simulation(next(iter(cases.values())).run.base.contract) as sim:
        sim.reset(0)
        raw = sim.observe()
    for _ in range(steps + WARM_UP):
        for case in cases.values():
            _decide_once(case, raw)


def _decide_once(case: Case, raw: dict[str, np.ndarray]) -> None:
    """Robot steps until a decision is made, and how long that took."""
    decided = False
    while not decided:
        case.time_s += case.run.base.contract.dt_s
        case.driver.observe(raw, case.time_s)
        begun_s = time.perf_counter()
        decided = case.driver.act(explore=0.0, base_only=False).decided
        passed_ms = (time.perf_counter() - begun_s) * 1e3
    case.decision_ms.append(passed_ms)


def _report(bench: Bench, name: str, case: Case) -> None:
    run = case.run
    actor = sum(p.numel() for p in run.agent.actor.parameters()) if run.agent.actor else 0
    critic = sum(p.numel() for p in run.learner._critic_parameters())
    bench.add(f"{name}_actor", actor, "parameters")
    bench.add(f"{name}_critic", critic, "parameters")
    bench.add(f"{name}_batch", run.settings.rl.batch_size, "windows per update")
    for what in ("update_ms", "decision_ms"):
        values = getattr(case, what)[WARM_UP:]
        bounds = {"low": min(values), "high": max(values)}
        figure = f"{name}_{what.removesuffix('_ms')}"
        bench.add(figure, statistics.median(values), "ms", n=len(values), **bounds)
    rate = 1e3 / statistics.median(case.update_ms[WARM_UP:])
    bench.add(f"{name}_update_rate", rate, "updates/s", n=len(case.update_ms) - WARM_UP)
    bench.add(f"{name}_replay", run.learner.bytes / _capacity(run) * 1e-3, "MB per 1,000 steps")


def _capacity(run: LearningRun) -> int:
    rl = run.settings.rl
    return rl.online_buffer_capacity + rl.offline_buffer_capacity
