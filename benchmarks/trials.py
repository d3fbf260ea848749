"""Figures of comparisons: what they promise and what they cost, over simulated studies.

The topic is `trials`, as `rewact bench compare` compares results. Each kind of figure has a
function below, and `run` lists them. Seeds are others than those on which the bets were tuned.
"""

import itertools

import numpy as np

from rewact_ros.bench.figures import Bench
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.trials.fixed import paired_blocks, unpaired_blocks
from rewact_ros.trials.judged import JudgeErrors
from rewact_ros.trials.replacement import ReplacementSettings, replacements
from rewact_ros.trials.sequential import PairedComparison, SequentialSettings
from rewact_ros.trials.simulated import PairedRates, run_studies

SETTINGS = SequentialSettings()
_WHOLE = 5  # of so many studies one is made block by block, as a user would
# Without giving up: whoever stops when it suits him finds what is found at any time at all.
EVER = SequentialSettings(futility=0.0)
EQUAL = tuple(PairedRates(p, p, c) for p, c in ((0.5, 0), (0.75, 0), (0.75, 0.5), (0.9, 0)))
GAPS = tuple(PairedRates(a, a + 0.15, c) for a, c in itertools.product((0.7, 0.8), (0.0, 0.3)))
JUDGES = JudgeErrors(0.02, 0.97), JudgeErrors(0.05, 0.9)
OLD_SCENES, NEW_SCENES = 30, 200
SEED = 7_000


def run(bench: Bench) -> None:
    """Type I, trials against a fixed number, the test of a new version, and a judge's errors.

    `--quick` simulates a tenth of the studies.
    """
    studies = 200 if bench.quick else 2000
    bench.settings.update(
        studies=studies, alpha=SETTINGS.alpha, gap=SETTINGS.gap, power=SETTINGS.power
    )
    for index, part in enumerate((wrong_decisions, coverage, trials, new_versions, judged)):
        print(part.__name__.replace("_", " "))
        part(bench, studies, np.random.default_rng(SEED + index))


def wrong_decisions(bench: Bench, studies: int, rng: np.random.Generator) -> None:
    """How often equally good versions are told apart, by somebody who looks after every block."""
    studies *= 10  # the rates lie just below what is promised
    for rates in EQUAL:
        ended = run_studies(drawn(rates, studies, rng), EVER)
        add(bench, f"wrong_{name(rates)}", ended.better != 0, "<= 0.05")
    # Partial credit, one version always 0.8, the other 1 or 0: equal means, skewed differences.
    skewed = (rng.random((studies, EVER.most_blocks)) < 0.8) - 0.8
    add(bench, "wrong_partial_credit", run_studies(skewed, EVER).better != 0, "<= 0.05")
    a, b, c = (rng.random((studies, EVER.most_blocks)) < 0.75 for _ in range(3))
    thirds = SequentialSettings(alpha=EVER.alpha / 3, futility=0.0)
    pairs = ((a, b), (a, c), (b, c))
    any_pair = [run_studies(1.0 * y - x, thirds).better != 0 for x, y in pairs]
    add(bench, "wrong_three_versions", np.any(any_pair, axis=0), "<= 0.05")
    # What is done without such a test: McNemar's at 5 % after every block.
    values = drawn(EQUAL[1], studies, rng)
    z = values.cumsum(axis=1) / np.sqrt(np.maximum(np.square(values).cumsum(axis=1), 1))
    add(bench, "wrong_repeated_fixed_test", (np.abs(z[:, 10:]) > 1.96).any(axis=1))


def coverage(bench: Bench, studies: int, rng: np.random.Generator) -> None:
    """How often what a study shows ever leaves out the truth, looked at after every block."""
    for rates in (EQUAL[1], GAPS[0], GAPS[3]):
        a, b = rates.draw(max(studies // _WHOLE, 2), SETTINGS.most_blocks, rng)
        gap, apart, version = rates.b - rates.a, [], []
        for study in range(len(a)):
            comparison, missed = PairedComparison(["a", "b"], SETTINGS), [False, False]
            for x, y in zip(a[study], b[study], strict=True):
                state = comparison.add({"a": float(x), "b": float(y)})
                shown, mean = state.pairs[0].difference, state.means["a"]
                missed[0] |= not shown.low - 1e-9 <= gap <= shown.high + 1e-9
                missed[1] |= not mean.low - 1e-9 <= rates.a <= mean.high + 1e-9
                if state.finished:
                    break
            apart.append(missed[0])
            version.append(missed[1])
        add(bench, f"limits_miss_{name(rates)}", np.array(apart), "<= 0.05")
        add(bench, f"limits_miss_a_version_{name(rates)}", np.array(version), "<= 0.05")


def trials(bench: Bench, studies: int, rng: np.random.Generator) -> None:
    """Blocks until a decision at a difference of 15 points, beside tests of a fixed number."""
    for rates in GAPS:
        ended, known = run_studies(drawn(rates, studies, rng), SETTINGS), name(rates)
        found = float((ended.better == 1).mean())
        mean, median = float(ended.blocks.mean()), float(np.median(ended.blocks))
        add(bench, f"found_{known}", ended.better == 1, ">= 0.8")
        bench.add(f"blocks_mean_{known}", mean, "blocks", n=studies)
        bench.add(f"blocks_median_{known}", median, "blocks", n=studies)
        for power, what in ((0.8, "80"), (found, "same")):
            fixed = paired_blocks(rates.only_a, rates.only_b, SETTINGS.alpha, power)
            bench.add(f"fixed_paired_power_{what}_{known}", fixed, "blocks")
            low, high = mean_interval(ended.blocks / fixed)
            bench.add(
                f"mean_to_fixed_paired_power_{what}_{known}",
                mean / fixed,
                "of 1",
                goal="<= 0.7",
                n=studies,
                low=low,
                high=high,
            )
            bench.add(f"median_to_fixed_paired_power_{what}_{known}", median / fixed, "of 1")
        fixed = paired_blocks(rates.only_a, rates.only_b, SETTINGS.alpha, 0.8)
        longer = drawn(rates, studies, np.random.default_rng(SEED + 50), 400)
        by_mixture = mixture_blocks(longer, 0.8) / fixed
        bench.add(f"mean_of_mixture_to_fixed_power_80_{known}", by_mixture, "of 1", n=studies)
        fisher = unpaired_blocks(rates.a, rates.b, SETTINGS.alpha, 0.8)
        bench.add(f"fixed_fisher_power_80_{known}", fisher, "trials of each")
        bench.add(
            f"mean_to_fixed_fisher_power_80_{known}",
            mean / fisher,
            "of 1",
            goal="<= 0.7",
            n=studies,
        )


def mixture_blocks(values, power: float) -> float:  # type: ignore[no-untyped-def]
    """Mean blocks of the usual bets, on all stakes alike, stopped where they have the power."""
    stakes = (np.arange(50) + 0.5) / 50
    won, lost = (values > 0).cumsum(axis=1), (values < 0).cumsum(axis=1)
    gain, loss = np.log1p(stakes), np.log1p(-stakes)
    wealth = np.array(
        [
            np.exp(won[:, n, None] * gain + lost[:, n, None] * loss).mean(axis=1)
            for n in range(values.shape[1])
        ]
    )
    found = np.logical_or.accumulate(wealth >= 2 / SETTINGS.alpha, axis=0)
    most = int(np.argmax(found.mean(axis=1) >= power)) + 1
    return float(np.where(found[most - 1], found.argmax(axis=0) + 1, most).mean())


def new_versions(bench: Bench, studies: int, rng: np.random.Generator) -> None:
    """How often a new version is kept, by what it is worth; before: at least as many of 30."""
    settings = ReplacementSettings()
    for base, points in itertools.product((0.7, 0.85), (-20, -10, -5, 0, 5, 10)):
        rates = PairedRates(base, base + points / 100)
        known = f"{base:g}_{points:+d}_points"
        values = drawn(rates, studies, rng, NEW_SCENES)
        kept, scenes = replacements(values, settings)
        add(bench, f"kept_{known}", kept, "<= 0.05" if points <= -10 else "")
        bench.add(f"kept_scenes_{known}", float(scenes.mean()), "scenes, mean", n=studies)
        before = values[:, :OLD_SCENES].sum(axis=1) >= 0
        add(bench, f"kept_by_30_scenes_{known}", before)


def judged(bench: Bench, studies: int, rng: np.random.Generator) -> None:
    """A judge that errs against one version and for the other, as far as its rates allow."""
    for errors in JUDGES:
        beta, d = errors.false_completions, errors.detection
        what, null = f"judge_{beta:g}_{d:g}", errors.most(0.0)
        # Where both succeed in 1 - beta of the scenes, its errors do most.
        for gap in (0.0, 0.15, 0.3):
            top = 1 - beta
            a, b = PairedRates(top - gap, top).draw(studies, SETTINGS.most_blocks, rng)
            worst = seen(b, rng, beta, 1.0) * 1.0 - seen(a, rng, 0.0, d)
            if not gap:
                ended = run_studies(worst, EVER, null)
                add(bench, f"{what}_wrong", ended.better != 0, "<= 0.05")
                add(bench, f"{what}_wrong_if_believed", run_studies(worst, EVER).better != 0)
                continue
            fair = seen(b, rng, beta / 2, (1 + d) / 2) * 1.0 - seen(a, rng, beta / 2, (1 + d) / 2)
            ended = run_studies(fair, SETTINGS, null)
            add(bench, f"{what}_found_{gap:g}", ended.better == 1)
            bench.add(f"{what}_blocks_{gap:g}", float(ended.blocks.mean()), "blocks, mean")


def seen(success, rng: np.random.Generator, false: float, found: float):  # type: ignore[no-untyped-def]
    """What a judge calls complete: `false` of all episodes without success, `found` of the rest."""
    share = false / max(1 - float(success.mean()), 1e-9)
    return np.where(success, rng.random(success.shape) < found, rng.random(success.shape) < share)


def drawn(rates: PairedRates, studies: int, rng: np.random.Generator, blocks: int = 0):  # type: ignore[no-untyped-def]
    """(studies, blocks) differences b - a of outcomes."""
    a, b = rates.draw(studies, blocks or SETTINGS.most_blocks, rng)
    return b * 1.0 - a


def name(rates: PairedRates) -> str:
    """As figures are named."""
    tied = f"_correlation_{rates.correlation:g}" if rates.correlation else ""
    return f"{rates.a:g}_{rates.b:.2g}{tied}"


def add(bench: Bench, what: str, hits, goal: str = "") -> None:  # type: ignore[no-untyped-def]
    """A share with its Wilson interval."""
    count, n = int(np.sum(hits)), len(hits)
    low, high = wilson_interval(count, n)
    bench.add(what, count / n, "share", goal=goal, n=n, low=low, high=high)


def mean_interval(values) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """95 % interval of a mean over many studies."""
    half = 1.96 * float(values.std()) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half
