"""Figures of the supervisor: what its thresholds promise and keep, beside a one-sample rule.

They are figures of the shipped policy, and of the failures of `pick_place`, so that no other task
is measured; `rewact calibrate` tells another policy's own rates.

The roll-outs are made on the first run, about 45 minutes on one core; a run that was cut short goes
on where it stopped. The weak policy is the strong one's recipe stopped after 800 steps:

    rewact train --dataset datasets/vx300s_demos --steps 800 --out runs/vx300s-weak …
"""

import math
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from supervisor_rollouts import Collection, collect
from supervisor_splits import MONITOR, Episodes, episodes_of, over_splits

from rewact_ros.bench.figures import Bench
from rewact_ros.share import share_dir
from rewact_ros.stack.bringup import default_policy
from rewact_ros.supervision.calibration import Calibration, CalibrationSettings
from rewact_ros.supervision.conformal import calibrate

_DATASETS = Path(os.environ.get("REWACT_ROLLOUTS", "datasets"))
ROLLOUTS = _DATASETS / "supervisor_rollouts"
WEAK = Path(os.environ.get("REWACT_WEAK", "runs/vx300s-weak/checkpoints/last/pretrained_model"))
CLASSIFIER = share_dir() / "models" / "vx300s_pick_place_success"
CLASSIFIER_DATA = _DATASETS / "vx300s_rollouts"
SPREAD = (5, 95)  # percentiles over the splits


@dataclass(frozen=True)
class Amount:
    """How much is measured.

    Attributes:
        weak, strong: scenes of each policy; no threshold or weight was chosen on them before.
        splits: calibration and test.
        trials: of each fault.
        rates: β and α; a quick version has too few roll-outs for the usual ones.
    """

    weak: range
    strong: range
    splits: int
    trials: int
    rates: CalibrationSettings


FULL = Amount(range(250_000, 250_400), range(260_000, 260_130), 200, 5, CalibrationSettings())
QUICK = Amount(range(0), range(260_000, 260_010), 5, 1, CalibrationSettings(beta=0.25, alpha=0.75))

_UNITS = {"delay": "s", "threshold": "progress"}
_GOALS = {
    "false_completions": "≤ {beta:g} (β)",
    "false_alarms": "≤ {alpha:g} (α)",
    "success_delay_p50": "≤ 0.5",
}


def run(bench: Bench) -> None:
    """Measure everything; `--quick` takes a few episodes of the strong policy and loose rates."""
    amount = QUICK if bench.quick else FULL
    bench.settings.update(
        beta=amount.rates.beta,
        alpha=amount.rates.alpha,
        splits=amount.splits,
        intervals=f"{SPREAD[0]} % to {SPREAD[1]} % of the splits",
        missing=[],
    )
    if amount.weak and WEAK.is_dir():
        judged(bench, "weak", collect(WEAK, amount.weak, ROLLOUTS), amount)
    elif amount.weak:
        _missing(bench, "weak policy", f"no checkpoint {WEAK}; set REWACT_WEAK")
    strong = collect(Path(default_policy()), amount.strong, ROLLOUTS)
    judged(bench, "strong", strong, amount)
    classifier(bench)
    faults(bench, strong, amount)


def judged(bench: Bench, name: str, collection: Collection, amount: Amount) -> None:
    """Thresholds on some roll-outs of a policy, counted on the others; a picture of the splits."""
    episodes, rates = episodes_of(collection), amount.rates
    succeeded = int(np.isfinite(episodes.success).sum())
    total = len(episodes.sources)
    bench.settings[name] = f"policy {collection.basis.policy_version}, {succeeded}/{total} succeed"
    splits = over_splits(collection, episodes, rates, amount.splits)
    counts = {"false_completions": total, "threshold": total}
    for rule, found in splits.items():
        prefix = name if rule == MONITOR else f"{name}_{rule}"
        for figure in {figure: None for split in found for figure in split}:  # in order
            if figure == "threshold" and rule.removeprefix("one_sample_")[0].isdigit():
                continue  # a fixed one
            _add(
                bench,
                f"{prefix}_{figure}",
                [split.get(figure, math.nan) for split in found],
                goal=_goal(figure, rates) if rule == MONITOR else "",
                n=counts.get(figure, _count(episodes, figure)),
            )
    if not bench.quick:
        from supervisor_plots import draw_splits

        draw_splits(bench.folder / f"supervisor-{name}.png", splits, rates.beta, rates.alpha)


def _add(bench: Bench, name: str, values: Iterable[float], goal: str, n: int) -> None:
    """Mean and spread over the splits; splits with nothing to count are left out."""
    known = np.array([value for value in values if math.isfinite(value)])
    if not len(known) or not n:
        return
    unit = next((unit for part, unit in _UNITS.items() if part in name), "share")
    low, high = np.percentile(known, SPREAD)
    bench.add(name, float(known.mean()), unit, goal=goal, n=n, low=float(low), high=float(high))


def _goal(figure: str, rates: CalibrationSettings) -> str:
    return _GOALS.get(figure, "").format(beta=rates.beta, alpha=rates.alpha)


def _count(episodes: Episodes, figure: str) -> int:
    """Roll-outs that a figure speaks of: those of a kind of failure, the failures or successes."""
    for kind in np.unique(episodes.kind[episodes.kind != ""]):
        if figure.startswith(str(kind)):
            return int((episodes.kind == kind).sum())
    succeeded = int(np.isfinite(episodes.success).sum())
    return len(episodes.sources) - succeeded if figure.startswith("failures") else succeeded


def classifier(bench: Bench) -> None:
    """The success classifier on roll-outs that neither it nor its settings were chosen on."""
    if not CLASSIFIER_DATA.is_dir():
        _missing(bench, "classifier", f"no data set {CLASSIFIER_DATA}; see benchmarks/reward.py")
        return
    from supervisor_classifier import add_figures

    add_figures(bench, CLASSIFIER, CLASSIFIER_DATA, bench.quick)


def faults(bench: Bench, strong: Collection, amount: Amount) -> None:
    """Real processes with thresholds from all of the strong policy's roll-outs."""
    from supervisor_faults import add_figures, run_episodes
    from supervisor_plots import draw_faults

    calibration = _calibration(strong, amount.rates)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calibration.json"
        calibration.save(file)
        watched = run_episodes(Path(default_policy()), file, amount.trials, bench.folder)
    add_figures(bench, watched)
    draw_faults(bench.folder / "supervisor-faults.png", watched.episodes, calibration)


def _calibration(collection: Collection, rates: CalibrationSettings) -> Calibration:
    sources = episodes_of(collection).sources
    return calibrate(sources, collection.signals, collection.basis, rates)


def _missing(bench: Bench, what: str, why: str) -> None:
    typer.echo(f"  {what}: skipped, {why}")
    bench.settings["missing"].append(f"{what}: {why}")
