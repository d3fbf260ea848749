"""Figures of HG-DAgger in simulation: a weak policy, a scripted human, fine-tuning, again.

Of any task that has demonstrations. The base is trained on 60 of them. Who is called for help, when
an episode ends and what its label is come from the policy's own reward and from the human; the
simulation's truth only counts the successes. A full run takes an hour or two and goes on where it
was killed; remove `runs/bench/dagger` to measure anew.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from rewact_ros.bench.figures import Bench
from rewact_ros.contract import load_contract
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.sim.task import DEFAULT_TASK
from rewact_ros.stack.bringup import default_contract

ANY_TASK = True
DEMOS = Path("datasets/vx300s_demos")
DEMO_COUNT = 60
# No policy, threshold or setting was chosen on these scenes.
REPORT_SEED = 270_000
COLLECT_SEED, CHOOSE_SEED = 60_000, 100_000
RECIPE = {
    "dropout": "0.0",
    "random_shift_px": "4",
    "brightness_jitter": "0.1",
    "state_noise_std": "0.02",
    "reward_head": "distributional",
    "reward_target": "gaussian",
}


def run(bench: Bench) -> None:
    """Success before and after each round, interventions per episode, wall time.

    `--quick` trains for a minute and drives a few scenes.
    """
    if not bench.quick:
        _measure(bench, bench.folder / f"dagger{_suffix(bench.task)}")
        return
    with tempfile.TemporaryDirectory() as folder:
        _measure(bench, Path(folder))


def _measure(bench: Bench, folder: Path) -> None:
    from rewact_ros.learning.imitation.dagger import run_rounds
    from rewact_ros.learning.imitation.settings import RoundsSettings

    quick = bench.quick
    base = train_base(folder / "base", 60 if quick else 1000, bench.task)
    rounds = RoundsSettings(
        tuning(base, folder / "rounds", 10 if quick else 700, bench.task),
        rounds=1 if quick else 3,
        episodes=2 if quick else 40,
        seed=COLLECT_SEED,
        test_episodes=2 if quick else 200,
        test_seed=CHOOSE_SEED,
    )
    bench.settings.update(
        task=bench.task,
        demonstrations=DEMO_COUNT,
        collect_seed=COLLECT_SEED,
        choose_seed=CHOOSE_SEED,
        report_seed=REPORT_SEED,
        share=rounds.training.share,
        steps=rounds.training.steps,
    )
    results = list(run_rounds(rounds, resume=True))
    report(bench, folder, "dagger_base_success", base)
    for index, result in enumerate(results):
        name = f"dagger_round_{index + 1}"
        add_round(bench, name, result)
        report(bench, folder, f"{name}_success", result.policy)
    # As many steps of training from the same base without what the rounds collected.
    steps = rounds.training.steps * rounds.rounds
    further = train_on(base, folder / "control", steps, bench.task)
    report(bench, folder, "demonstrations_only_success", further)


def train_on(base: Path, out: Path, steps: int, task: str) -> Path:
    """The base after further steps on its own demonstrations."""
    from rewact_ros.learning.imitation.train import train

    train(tuning(base, out, steps, task), resume=True)
    return out / "checkpoints" / "last" / "pretrained_model"


def train_base(out: Path, steps: int, task: str = DEFAULT_TASK) -> Path:
    """The weak policy."""
    from rewact_ros.learning.imitation.settings import TrainSettings
    from rewact_ros.learning.imitation.train import train

    settings = TrainSettings(
        dataset=str(demonstrations(task)),
        out=str(out),
        episodes=first_successes(task),
        val_fraction=0.05,
        steps=steps,
        lr=5e-4,
        lr_backbone=5e-4,
        val_every=1000,
        save_every=250,
        mixed_precision="bf16",
        policy=RECIPE,
        contract=default_contract(task),
        task=task,
    )
    train(settings, resume=True)
    return out / "checkpoints" / "last" / "pretrained_model"


def tuning(base: Path, out: Path, steps: int, task: str):  # type: ignore[no-untyped-def]
    """Settings of a round's fine-tuning."""
    from rewact_ros.learning.imitation.settings import TrainSettings

    return TrainSettings(
        dataset=str(demonstrations(task)),
        out=str(out),
        episodes=first_successes(task),
        val_fraction=0.05,
        steps=steps,
        warmup_steps=50,
        mixed_precision="bf16",
        start=str(base),
        contract=default_contract(task),
        task=task,
    )


def demonstrations(task: str) -> Path:
    """Dataset of a task's demonstrations, and of the default task's that of the shipped policy.

    Raises:
        ValueError: there is none.
    """
    demos = DEMOS if task == DEFAULT_TASK else Path("datasets") / f"{task.replace('/', '-')}_demos"
    if not demos.is_dir():
        raise ValueError(
            f"recording-dagger: expected demonstrations of {task} in {demos}, got none; make them "
            f"by `rewact demos --task {task} --out {demos}`"
        )
    return demos


def _suffix(task: str) -> str:
    return "" if task == DEFAULT_TASK else "-" + task.replace("/", "-")


def first_successes(task: str) -> str:
    """The first demonstrations that succeed, as ``--episodes`` takes them."""
    from rewact_ros.learning.imitation.demonstrations import load_demonstrations

    data = load_demonstrations(demonstrations(task))
    return ",".join(map(str, np.unique(data.episode[data.succeeds])[:DEMO_COUNT]))


def add_round(bench: Bench, name: str, result) -> None:  # type: ignore[no-untyped-def]
    """Figures of one round."""
    collected, n = result.collected, len(result.collected)
    right = sum(e.success == e.truth for e in collected)
    low, high = wilson_interval(right, n)
    bench.add(f"{name}_interventions", result.interventions, "per episode", goal="falls", n=n)
    bench.add(f"{name}_verdict_right", right / n, "share", n=n, low=low, high=high)
    bench.add(f"{name}_human", sum(e.human_s for e in collected) / 60, "min", n=n)
    bench.add(f"{name}_robot", sum(e.duration_s for e in collected) / 60, "min", n=n)
    bench.add(f"{name}_wall", result.wall_s / 60, "min")
    bench.add(f"{name}_kept", float(result.comparison.kept), "of 1")


def report(bench: Bench, folder: Path, name: str, policy: Path) -> None:
    """Success over unseen scenes, without help."""
    from rewact_ros.learning.imitation.finetune import count_successes

    n, file = 2 if bench.quick else 100, folder / f"{name}.json"
    if not file.exists():
        contract = load_contract(default_contract(bench.task))
        counted = count_successes(policy, contract, range(REPORT_SEED, REPORT_SEED + n), bench.task)
        file.write_text(json.dumps(counted))
    successes = json.loads(file.read_text())
    low, high = wilson_interval(successes, n)
    goal = "above the base" if "round" in name else ""
    bench.add(name, successes / n, "share", goal=goal, n=n, low=low, high=high)
