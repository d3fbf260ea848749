"""Figures of reinforcement learning with a human at hand, beside HG-DAgger on the same budget.

All begin with the weak policy of `recording_dagger.py` and its 60 demonstrations. Verdicts and ends
of episodes are learned ones; the simulation's truth chooses no label, only the version that is
reported (on validation scenes) and the figure itself (on scenes that nothing else has seen).

A full run takes many hours; each arm is kept in `runs/bench/hil_serl/<arm>-<seed>`, goes on where
it was killed, and is only read once it is done.
"""

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recording_dagger import COLLECT_SEED, DEMO_COUNT, DEMOS, train_base

from rewact_ros.bench.figures import Bench
from rewact_ros.learning.rl.environment import EpisodeResult
from rewact_ros.learning.rl.evaluation import evaluate_policy, evaluate_version
from rewact_ros.learning.rl.loop import FastLoop
from rewact_ros.learning.rl.run_settings import LearnSettings, SimEpisodeSettings
from rewact_ros.learning.rl.settings import preset
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.share import share_dir
from rewact_ros.sim.human import Traits
from rewact_ros.stack.bringup import default_contract, default_policy

# No policy, threshold or setting was chosen on these scenes.
REPORT_SEED, REPORT_EPISODES = 280_000, 100
DAGGER = Path("runs/bench/dagger")
CLASSIFIER = share_dir() / "models/vx300s_pick_place_success"


@dataclass(frozen=True)
class Arm:
    """One way to learn, and with which seeds it is tried."""

    algorithm: str = "act_sac"
    changes: dict[str, Any] = field(default_factory=dict)
    human: bool = True
    demos: bool = True
    success_by: str = "progress"
    seeds: tuple[int, ...] = (0,)


# Where nobody corrects it, noise would only spoil episodes.
_LITTLE_NOISE = {"log_std_min": -9.0, "log_std_max": -7.0}
# The critics decide nothing, and exploring does not end: online imitation.
_IMITATION = {
    "speeds": (1.0,),
    "exploration": 0.1,
    "exploration_half_life": 0,
    "utd_ratio": 0.25,
    "utd_ratio_uncalibrated": 0.25,
}
ARMS = {
    "full": Arm(seeds=(0, 1, 2)),
    "no_interventions": Arm(changes=_LITTLE_NOISE, human=False, seeds=(0, 1, 2)),
    "no_demos_no_interventions": Arm(changes=_LITTLE_NOISE, human=False, demos=False),
    "no_shaping": Arm(changes={"shaping_weight": 0.0}),
    "classifier_verdicts": Arm(success_by="classifier"),
    "imitation": Arm(changes=_IMITATION, seeds=(0, 1)),
    "imitation_little_noise": Arm(changes=_IMITATION | _LITTLE_NOISE),
    "residual": Arm("residual"),
    "q_chunking": Arm("q_chunking"),
}
QUICK = ("full",)
_FEW = {
    "critic_warmup_updates": 5,
    "online_step_before_learning": 20,
    "utd_ratio": 0.1,
    "utd_ratio_uncalibrated": 0.1,
}


def run(bench: Bench) -> None:
    """Measure every arm; `--quick` learns from two episodes of the shipped policy."""
    bench.settings |= {
        "demonstrations": DEMO_COUNT,
        "first_training_scene": COLLECT_SEED,
        "first_reported_scene": REPORT_SEED,
    }
    if bench.quick:  # a policy of a few steps would run into every limit
        with tempfile.TemporaryDirectory() as place:
            _arms(bench, Path(place), QUICK, Path(default_policy()))
        return
    folder, base = bench.folder / "hil_serl", train_base(DAGGER / "base", 1000)
    _policy(bench, folder, "base", base)
    for speed in (2.0, 3.0):  # what no learning would have brought
        _policy(bench, folder, f"base_at_speed_{speed:g}", base, speed)
    for number, rounds in _dagger_rounds():
        _policy(bench, folder, f"hg_dagger_{number * 40}_episodes", rounds)
    control = DAGGER / "control/checkpoints/last/pretrained_model"
    if control.exists():  # as many steps of training as all rounds, without what they collected
        _policy(bench, folder, "hg_dagger_control", control)
    _arms(bench, folder, ARMS, base)


def _arms(bench: Bench, folder: Path, arms: Iterable[str], base: Path) -> None:
    for name in arms:
        arm = ARMS[name]
        for seed in arm.seeds if not bench.quick else (0,):
            settings = learn_settings(arm, seed, base, folder / f"{name}-{seed}", bench.quick)
            _arm(bench, f"{name}_{seed}", settings)


def learn_settings(arm: Arm, seed: int, base: Path, out: Path, quick: bool) -> LearnSettings:
    """Of one run; validation scenes are those of HG-DAgger's rounds."""
    small = _FEW if quick else {}
    return LearnSettings(
        out=str(out),
        policy=str(base),
        contract=default_contract(),
        rl=preset(arm.algorithm, seed=seed, **{**arm.changes, **small}),
        episode=SimEpisodeSettings(
            human=Traits() if arm.human else None,
            success_by=arm.success_by,
            classifier=str(CLASSIFIER) if arm.success_by == "classifier" else "",
        ),
        demos=str(DEMOS) if arm.demos else "",
        demo_episodes=2 if quick else DEMO_COUNT,
        episodes=2 if quick else 120,
        first_seed=COLLECT_SEED + 1000 * seed,
        eval_every=2 if quick else 40,
        eval_episodes=1 if quick else 40,
        eval_most=1 if quick else 100,
        eval_seed=150_000,
        device="cpu",
    )


def learn(settings: LearnSettings) -> dict[str, float]:
    """Figures of a run, which goes on where it was killed and is not done twice."""
    out = Path(settings.out)
    done = out / "done.json"
    if not done.exists():
        begun_s = time.monotonic()
        figures = FastLoop(settings, resume=(out / "journal").exists()).run()
        figures["wall_min_of_last_start"] = (time.monotonic() - begun_s) / 60
        figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        done.write_text(json.dumps(figures) + "\n")
    return json.loads(done.read_text())


def _arm(bench: Bench, name: str, settings: LearnSettings) -> None:
    out = Path(settings.out)
    figures = learn(settings)
    lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    episodes = [line for line in lines if "episode" in line]
    third = max(len(episodes) // 3, 1)
    for when, some in (("first", episodes[:third]), ("last", episodes[-third:])):
        per = statistics.mean(e["interventions"] for e in some)
        bench.add(f"{name}_interventions_{when}_third", per, "per episode", n=len(some))
    right = sum(e["success"] == e["truth"] for e in episodes)
    bench.add(f"{name}_verdict_right", right / len(episodes), "share", n=len(episodes))
    bench.add(f"{name}_robot", figures["robot_min"], "min")
    bench.add(f"{name}_human", sum(e["human_s"] for e in episodes) / 60, "min")
    bench.add(f"{name}_updates", figures["updates"], "updates")
    bench.add(f"{name}_updates_rate", figures["updates_per_s"], "1/s")
    bench.add(f"{name}_wall", figures["wall_min_of_last_start"], "min", goal="≤ 90")
    bench.add(f"{name}_memory", figures["peak_mb"], "MB at most")
    best = json.loads((out / "best.json").read_text())
    version = out / "policies" / best["path"]
    goal = "≥ 0.95" if name.startswith("full") else ""
    driven = evaluate_version(version, default_contract(), reported(bench))
    results(bench, out / "report.json", name, goal, driven)


def _policy(bench: Bench, folder: Path, name: str, policy: Path, speed: float = 1.0) -> None:
    seeds = reported(bench)
    driven = evaluate_policy(policy, default_contract(), seeds, speed)
    results(bench, folder / f"{name}.json", name, "", driven)


def reported(bench: Bench) -> range:
    return range(REPORT_SEED, REPORT_SEED + (1 if bench.quick else REPORT_EPISODES))


def results(
    bench: Bench, file: Path, name: str, goal: str, driven: Iterable[EpisodeResult]
) -> None:
    """Success, cycle time and speed on the reported scenes; driven once."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([asdict(result) for result in driven]) + "\n")
    found = [EpisodeResult(**r) for r in json.loads(file.read_text())]
    add_successes(bench, name, [(r.truth, r.duration_s) for r in found], goal)
    bench.add(f"{name}_speed", statistics.mean(r.speed for r in found), "mean", n=len(found))


def add_successes(
    bench: Bench, name: str, driven: list[tuple[bool, float]], goal: str = ""
) -> None:
    """Success and cycle time of scenes: of each, whether it truly succeeded and its duration."""
    n, done = len(driven), [duration_s for truth, duration_s in driven if truth]
    low, high = wilson_interval(len(done), n)
    bench.add(f"{name}_success", len(done) / n, "share", goal=goal, n=n, low=low, high=high)
    if done:
        bench.add(f"{name}_cycle", statistics.median(done), "s, of successes", n=len(done))


def _dagger_rounds() -> Iterable[tuple[int, Path]]:
    """Policies after each round that exists."""
    for number in range(1, 10):
        policy = DAGGER / f"rounds/round-{number}/train/checkpoints/last/pretrained_model"
        if policy.exists():
            yield number, policy
