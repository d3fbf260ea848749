"""What `rewact calibrate` says of the thresholds that it chose."""

import typer

from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.supervision.calibration import Calibration, Groups
from rewact_ros.supervision.conformal import compare
from rewact_ros.supervision.episode_signals import CalibrationEpisode
from rewact_ros.supervision.signals import PLAIN
from rewact_ros.text import printable


def report(
    calibration: Calibration, measured: list[CalibrationEpisode], found: int, of: int
) -> None:
    """Print thresholds, rates and what they find.

    Args:
        calibration: that was made.
        measured: episodes that it was made of.
        found, of: successes that the completion threshold recognises, and all.
    """
    c = calibration
    typer.echo(
        f"{c.episodes} roll-outs of {c.basis.timeout_s:g} s at most, {c.successes} succeeded"
    )
    rule = "" if c.signals.completion == PLAIN else f", {c.signals.completion}"
    groups = c.groups or Groups("", {}, {})
    own = {f"  of {groups.key} {printable(name)}": b for name, b in groups.bounds.items()}
    rows = {f"completion ({c.signals.level}{rule} above)": c.completion, **own, **c.alarms}
    for name, bound in rows.items():
        typer.echo(
            f"  {name:<24} {bound.threshold:7.3f}   exceeded in at most {bound.rate:.4f} of "
            f"episodes (rank {bound.rank} of n {bound.n}, quantile {bound.quantile:.4f})"
        )
    for group in groups.counts:
        if fault := groups.fault(group):
            typer.echo(f"  {printable(fault)}: the threshold of all serves it, and claims nothing")
    if of:
        low, high = wilson_interval(found, of)
        typer.echo(
            f"  of these successes {found}/{of} are recognised within "
            f"{c.settings.verdict_s:g} s after the fact ({low:.2f} to {high:.2f}, Wilson 95 %)"
        )
    _choice(calibration, measured)


def _choice(c: Calibration, measured: list[CalibrationEpisode]) -> None:
    """What each score of completion would have cost, where there was a choice."""
    aside, costs = compare(measured, c)
    if aside:
        typer.echo(f"  {aside} roll-outs chose between the scores of completion; on the others")
        for cost in costs:
            mark = "  <- chosen" if cost.rule == c.signals.completion else ""
            typer.echo(
                f"    {cost.rule:<8} above {cost.threshold:.3f} finds {cost.found}/{cost.of}{mark}"
            )


def report_driver(driver: str, judge: str) -> None:
    """For whom the bound is claimed, where that is not the judge alone; by their versions."""
    if not driver:
        typer.echo("who drove these roll-outs is not known, so that no bound is claimed (--driver)")
    elif driver != judge:
        typer.echo(
            f"the roll-outs were driven by {printable(driver)}: the bound is claimed where that "
            f"policy drives beside this judge, {judge}"
        )
