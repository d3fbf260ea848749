"""Bench topic `calibration`: what calibrating from ordinary work keeps, and which score it chooses.

The roll-outs are those of the topic `judges` (run that first; they lie in `runs/bench/judges`):
what the shipped RewACT and the shipped classifier said of another policy's work. Two things are
counted:

- which score of completion is chosen, and what both would have cost, on the roll-outs as they are
  and behind a head that is near 1 for the first second or two;
- what 200 simulated labs keep whose people judge as people do: some verdicts are wrong, and every
  key comes up to half a second early or late. Their episodes are the recorded ones, stretched and
  shifted at random (`calibration_labs.py`), so that no two labs work on the same.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from calibration_labs import CONDITIONS, Lab, Pool, made_up, pool_of, realised
from judges_rollouts import JUDGES
from numpy.typing import NDArray
from supervisor_rollouts import SETTINGS, Recorded, read_one
from tqdm import tqdm

from rewact_ros.bench.figures import Bench
from rewact_ros.sim.timing import RATE_HZ
from rewact_ros.supervision.calibration import Basis, CalibrationSettings
from rewact_ros.supervision.completion import AUTO
from rewact_ros.supervision.conformal import calibrate
from rewact_ros.supervision.episode_signals import CalibrationEpisode
from rewact_ros.supervision.signals import (
    COMPLETIONS,
    PLAIN,
    PolicySample,
    SignalSettings,
    SignalTracker,
)

BASIS = Basis("reward", "policy", "contract", ("front",), RATE_HZ, SETTINGS.limit_s)
RATES = CalibrationSettings()
SPREAD = (5, 95)  # percentiles over labs or splits
SEED = 7_200  # of labs, splits and episodes; none was looked at before
SATURATED_S = (1.0, 2.0)  # how long a spoilt head is near 1
CALIBRATION_SHARE = 2 / 3


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        labs: simulated ones.
        pool: episodes that they draw from.
        episodes: that each lab judges.
        failing: share of failures in them.
        splits: of the recorded roll-outs.
    """

    labs: int = 200
    pool: int = 3000
    episodes: int = 120
    failing: float = 0.25
    splits: int = 200


_QUICK = Plan(labs=5, pool=300, splits=3)


def run(bench: Bench) -> None:
    """Count; `--quick` does so on curves that are made up."""
    plan = _QUICK if bench.quick else Plan()
    rng = np.random.default_rng(SEED)
    folder = bench.folder / "judges" / "rollouts"
    bench.settings |= vars(plan) | {
        "beta": RATES.beta,
        "alpha": RATES.alpha,
        "intervals": f"{SPREAD[0]} % to {SPREAD[1]} % of the labs or splits",
        "conditions": {name: str(condition) for name, condition in CONDITIONS.items()},
    }
    recorded = {name: _recorded(folder / name, bench.quick) for name in JUDGES}
    for name, episodes in recorded.items():
        for variant, values in (("", episodes), (" saturated", _saturated(episodes, rng))):
            add_choice(bench, f"{name}{variant}", [signals_of(e) for e in values], plan.splits)
    pool = pool_of(recorded["rewact"], plan.pool, plan.failing, rng, signals_of)
    for name in CONDITIONS:
        add_labs(bench, name, pool, plan, rng)


def _recorded(folder: Path, quick: bool) -> list[Recorded]:
    """The roll-outs of `judges`."""
    if quick:
        return [made_up(seed) for seed in range(60)]
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ValueError(f"{folder}: no roll-outs there; run `rewact bench judges` first")
    return [read_one(file, int(file.stem)) for file in files]


def _saturated(episodes: list[Recorded], rng: np.random.Generator) -> list[Recorded]:
    """As they are, behind a second or two in which the head is near 1."""
    found = []
    for episode in episodes:
        frames = int(rng.uniform(*SATURATED_S) * RATE_HZ)
        high = np.clip(rng.normal(0.97, 0.01, frames), 0, 1).astype(np.float32)
        known = ~np.isnan(episode.q10).all()
        q10 = high if known else np.full(frames, np.nan, np.float32)
        found.append(
            replace(
                episode,
                mean=np.concatenate([high, episode.mean]),
                q10=np.concatenate([q10, episode.q10]),
                success=np.concatenate([np.zeros(frames, bool), episode.success]),
            )
        )
    return found


def signals_of(episode: Recorded) -> CalibrationEpisode:
    """The monitor's signals, as the live supervisor makes them; without features."""
    level = "mean" if np.isnan(episode.q10).all() else "q10"
    tracker = SignalTracker(SignalSettings(level=level))
    signals = [
        tracker.add(PolicySample(frame / RATE_HZ, float(mean), float(q10)))
        for frame, (mean, q10) in enumerate(zip(episode.mean, episode.q10, strict=True))
    ]
    succeeded = np.flatnonzero(episode.success)
    success = int(succeeded[0]) if len(succeeded) else None
    return CalibrationEpisode.of(f"seed {episode.seed}", signals, None, success)


def add_choice(bench: Bench, name: str, episodes: list[CalibrationEpisode], splits: int) -> None:
    """Thresholds by each score, and by the one that is chosen, counted on the other roll-outs."""
    rng, counts = np.random.default_rng(SEED), {rule: [] for rule in (*COMPLETIONS, AUTO)}
    chosen = []
    whole = Pool.of(episodes, RATES.verdict_s)
    for _ in tqdm(range(splits), desc=name, leave=False):
        order = rng.permutation(len(episodes))
        known, rest = np.split(order, [round(CALIBRATION_SHARE * len(order))])
        for rule, found in counts.items():
            asked = replace(RATES, completion=rule, alpha=0.9)  # of completions alone
            made = calibrate([episodes[i] for i in known], SignalSettings(), BASIS, asked)
            found.append(realised(whole, rest, made))
            if rule == AUTO:
                chosen.append(made.signals.completion)
    successes = int(whole.succeeds.sum())
    for rule, found in counts.items():
        goal = f"≤ {RATES.beta:g} (β)" if rule == AUTO else ""
        _add(bench, f"{name}, {rule}: false completions", found, "false_completions", goal,
             len(episodes))  # fmt: skip
        _add(bench, f"{name}, {rule}: successes found", found, "found", "", successes)
    bench.add(f"{name}: chose engaged", float(np.mean([c != PLAIN for c in chosen])), "share",
              n=splits)  # fmt: skip


def add_labs(bench: Bench, name: str, pool: Pool, plan: Plan, rng: np.random.Generator) -> None:
    """What labs of one condition keep on episodes of which the truth is known."""
    lab, found = Lab(CONDITIONS[name], RATES), []
    for _ in tqdm(range(plan.labs), desc=name, leave=False):
        drawn = rng.permutation(len(pool.episodes))
        own, rest = drawn[: plan.episodes], drawn[plan.episodes :]
        made = lab.calibrate([pool.episodes[i] for i in own], BASIS, rng)
        if made is not None:
            found.append(realised(pool, rest, made))
    bench.add(f"{name}: labs with a bound", len(found) / plan.labs, "share", n=plan.labs)
    if not found:
        return
    rates = {"false_completions": lab.settings.beta, "false_alarms": lab.settings.alpha}
    for figure, words in (
        ("false_completions", "false completions"),
        ("far_false_completions", "far too early or never true"),
        ("false_alarms", "false alarms"),
        ("found", "successes found"),
    ):
        rate = rates.get(figure)
        goal = "" if rate is None else f"≤ {rate:g}"
        _add(bench, f"{name}: {words}", found, figure, goal, plan.labs)
        if rate is not None:
            above = np.mean([one[figure] > rate for one in found])
            bench.add(f"{name}: labs above, {words}", float(above), "share", n=len(found))


def _add(
    bench: Bench, name: str, found: list[dict[str, float]], figure: str, goal: str, n: int
) -> None:
    values: NDArray[np.float64] = np.array([one[figure] for one in found])
    low, high = np.percentile(values, SPREAD)
    bench.add(name, float(values.mean()), "share", goal=goal, n=n, low=float(low), high=float(high))
