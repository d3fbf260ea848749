"""Figures of the reward: parity with the public package, and what the predicted progress knows.

They are figures of the shipped policies, which know `pick_place` and the G1's task, so that no
other task is measured.

The roll-outs are ones that no training saw, successes and failures; make them once by

    rewact eval --policy models/vx300s_pick_place --episodes 120 --seed 230000 --hold-s 1 \
      --action-noise 0.04 --record datasets/vx300s_rollouts
"""

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from rewact_ros.bench.figures import Bench
from rewact_ros.contract import load_contract
from rewact_ros.learning.evaluation.dataset import (
    CLOCK,
    JOINTS,
    POLICY,
    Evaluation,
    EvaluationSettings,
    evaluate_dataset,
)
from rewact_ros.reward.metrics import mean_over, wilson_interval
from rewact_ros.share import share_dir
from rewact_ros.stack.bringup import default_contract, default_policy

# No policy, threshold or setting was chosen on these scenes.
CLOSED_LOOP_SEED = 220_000
_FOLDER = Path(os.environ.get("REWACT_ROLLOUTS", "datasets"))
ROLLOUTS = {"sim": _FOLDER / "vx300s_rollouts", "sim_disturbed": _FOLDER / "vx300s_disturbed"}
TRAINED_ON = "0:252"  # the episodes of DEMOS that the shipped policy knows
DEMOS = Path(os.environ.get("REWACT_DEMOS", "datasets/vx300s_demos"))
G1_POLICY = share_dir() / "models" / "g1_bottle"
G1_HELD_OUT, G1_TRAINED_ON = "24:30", "0:24"
_UNITS = {
    "drop_delay_s": "s",
    "crossing_delay_s": "s",
    "mae": "progress",
    "progress_ece": "progress",
}
_GOALS = {
    "roc_auc": "≥ 0.97, above both baselines",
    "mae": "below both baselines",
    "voc_success": "≥ 0.95",
}
_PARITY = 1e-5


def run(bench: Bench) -> None:
    """Measure everything; `--quick` takes fewer episodes and no ablations."""
    data = Path(os.environ.get("REWACT_DATA", share_dir().parent / "shared" / "data"))
    bench.settings.update(policy="models/vx300s_pick_place", closed_loop_seed=CLOSED_LOOP_SEED)
    bench.settings["missing"] = []
    parity(bench, data / "upstream_rewact_ckpt")
    closed_loop(bench, 3 if bench.quick else 100)
    simulated(bench)
    real(bench, data / "g1_bottle")


def parity(bench: Bench, folder: Path) -> None:
    """Largest differences from the outputs that the public package stored with its checkpoint."""
    if not folder.is_dir():
        _missing(bench, "parity", f"no upstream checkpoint at {folder}; set REWACT_DATA")
        return
    import torch

    from rewact_ros.policy.checkpoint import load_policy

    loaded = load_policy(folder, "cpu")
    inputs = {k: torch.from_numpy(v) for k, v in np.load(folder / "inputs.npz").items()}
    theirs = np.load(folder / "outputs.npz")
    estimate = loaded.predict(loaded.preprocessor(dict(inputs)), normalised=True)
    ours = {
        "action_chunk": loaded.predict(inputs).actions,
        "action_chunk_normalized": estimate.actions,
        "reward_logits": estimate.reward.logits,
        "reward_distribution": estimate.reward.distribution,
        "reward_expected_value": estimate.reward.value[:, None],
        "select_action_seq": _sequence(loaded, inputs, len(theirs["select_action_seq"])),
    }
    for name, value in ours.items():
        difference = float(np.abs(value.numpy() - theirs[name]).max())
        bench.add(
            f"parity_{name}",
            difference,
            "largest difference",
            goal=f"≤ {_PARITY:g}",
            n=value.numel(),
        )


def _sequence(loaded, inputs, steps: int):
    """The actions (steps, A) of a policy that is asked step by step, as the package was."""
    import torch

    loaded.policy.reset()
    n = len(inputs["observation.state"])
    actions = []
    for step in range(steps):
        one = {key: value[step % n : step % n + 1] for key, value in inputs.items()}
        actions.append(loaded.postprocessor(loaded.policy.select_action(loaded.preprocessor(one))))
    return torch.cat(actions)


def closed_loop(bench: Bench, episodes: int) -> None:
    """Successes over unseen scenes, without ROS."""
    from rewact_ros.episodes.rollout_dataset import roll_outs
    from rewact_ros.episodes.settings import RolloutSettings
    from rewact_ros.policy.checkpoint import load_policy

    contract = load_contract(default_contract())
    loaded = load_policy(default_policy(), "cpu")
    seeds = range(CLOSED_LOOP_SEED, CLOSED_LOOP_SEED + episodes)
    successes = sum(r.success for r in roll_outs(loaded, contract, seeds, RolloutSettings()))
    low, high = wilson_interval(successes, episodes)
    bench.add("sim_success", successes / episodes, "share", n=episodes, low=low, high=high)


def simulated(bench: Bench) -> None:
    """The reward table on roll-outs of policies, with baselines fitted on the demonstrations."""
    if not DEMOS.is_dir():
        _missing(bench, "sim reward", f"no data set {DEMOS}; `rewact demos`, or set REWACT_DEMOS")
        return
    bench.settings.update(baselines_fitted_on=f"{DEMOS}, episodes {TRAINED_ON}")
    for name, folder in ROLLOUTS.items():
        if not folder.is_dir():
            _missing(bench, name, f"no data set {folder}; benchmarks/reward.py says how to make it")
            continue
        bench.settings[name] = str(folder)
        settings = EvaluationSettings(
            folder, train_dataset=DEMOS, train_episodes=TRAINED_ON, ablations=name == "sim"
        )
        if bench.quick:
            settings = replace(settings, episodes="0:4", train_episodes="0:40", ablations=False)
        evaluate(bench, name, default_policy(), settings, _GOALS)


def real(bench: Bench, data: Path) -> None:
    """The same table on held-out episodes of a real humanoid, all of them successes."""
    if not data.is_dir():
        _missing(bench, "real robot data", f"no data set at {data}; set REWACT_DATA")
        return
    settings = EvaluationSettings(
        data, G1_HELD_OUT, train_episodes=G1_TRAINED_ON, progress_ramp=True
    )
    if bench.quick:
        settings = replace(settings, episodes="24", ablations=False)
    goals = {"voc_success": _GOALS["voc_success"]}
    evaluation = evaluate(bench, "g1", G1_POLICY, settings, goals)
    for figure, (value, low, high) in beside_joints(evaluation).items():
        n = len(evaluation.episodes)
        bench.add(f"g1_{figure}", value, "progress", n=n, low=low, high=high)


def beside_joints(evaluation: Evaluation) -> dict[str, tuple[float, float, float]]:
    """What the pictures add: the policy's error less that of the joints alone, by episode, and the
    error of their mean; each with its 95 % bootstrap interval over episodes."""

    def errors(curves: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
        truth = (episode.labels for episode in evaluation.episodes)
        return np.array([np.nanmean(np.abs(c - y)) for c, y in zip(curves, truth, strict=True)])

    policy, joints = ([c.progress for c in evaluation.reward[n].curves] for n in (POLICY, JOINTS))
    both = [(p + j) / 2 for p, j in zip(policy, joints, strict=True)]
    return {
        "policy_less_joints_mae": mean_over(errors(policy) - errors(joints)),
        "mean_of_policy_and_joints_mae": mean_over(errors(both)),
    }


def evaluate(
    bench: Bench, name: str, policy: str | Path, settings: EvaluationSettings, goals: dict[str, str]
) -> Evaluation:
    """Add the figures of policy, baselines and ablations; report and plots go beside the JSON."""
    from rewact_ros.learning.evaluation.report import write_report
    from rewact_ros.policy.checkpoint import load_policy

    loaded = load_policy(policy, "cpu")
    evaluation = evaluate_dataset(loaded, settings)
    shown = {"policy": {"path": Path(policy).name, "version": loaded.version}}
    write_report(bench.folder / f"reward-{name}", evaluation, shown)
    for predictor, judged in evaluation.reward.items():
        own = predictor in (POLICY, CLOCK, JOINTS)
        for key, figure in judged.figures.items():
            if math.isnan(figure.value) or not (own or key in ("mae", "voc_success", "roc_auc")):
                continue
            bench.add(
                f"{name}_{predictor.replace(' ', '_')}_{key}",
                figure.value,
                _UNITS.get(key, ""),
                goal=goals.get(key, "") if predictor == POLICY else "",
                n=figure.n,
                low=None if math.isnan(figure.low) else figure.low,
                high=None if math.isnan(figure.high) else figure.high,
            )
    for predictor, error in evaluation.actions.items():
        label = f"{name}_action_l1_{predictor.replace(' ', '_')}"
        bench.add(label, error.mean, "contract units", n=len(evaluation.episodes))
    return evaluation


def _missing(bench: Bench, what: str, why: str) -> None:
    typer.echo(f"  {what}: skipped, {why}")
    bench.settings["missing"].append(f"{what}: {why}")
