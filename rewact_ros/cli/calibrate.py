"""`rewact calibrate`: the monitor's thresholds with stated error rates, from recorded roll-outs."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.learning.evaluation.settings import RolloutSource
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.supervision.calibration import Calibration, CalibrationSettings
from rewact_ros.supervision.signals import SignalSettings
from rewact_ros.supervision.world import World


@with_options
def calibrate(
    policy: Annotated[
        Path, typer.Option(help="Checkpoint folder to judge with: of a policy or a classifier.")
    ],
    dataset: Annotated[
        Path, typer.Option(help="Roll-outs to judge, judging off (`rewact eval --record`).")
    ],
    *,
    of_source: Annotated[dict[str, Any], OptionsOf(RolloutSource)],
    asked: Annotated[dict[str, Any], OptionsOf(CalibrationSettings)],
    of_signals: Annotated[
        dict[str, Any], OptionsOf(SignalSettings, only=("filter_s", "dwell", "window"))
    ],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="File (default: calibration.json in the checkpoint).")
    ] = None,
) -> None:
    """Choose thresholds that keep the rates of false completions and false alarms."""
    from rewact_ros.learning.evaluation.calibrate import Rollouts, rollout_basis
    from rewact_ros.learning.evaluation.scorers import open_scorer
    from rewact_ros.policy.checkpoint import CALIBRATION
    from rewact_ros.runs import require_writable
    from rewact_ros.supervision.conformal import calibrate as choose
    from rewact_ros.supervision.conformal import check_counts, recognised

    settings = CalibrationSettings(**asked)
    scorer = open_scorer(policy, device)
    file = out or policy / CALIBRATION
    require_writable(file.absolute().parent)
    source = RolloutSource(dataset, **of_source)
    signals = SignalSettings(level=scorer.level, **of_signals)
    basis = rollout_basis(scorer, source)
    rollouts = Rollouts(source)
    check_counts(*rollouts.count(basis.timeout_s), settings, scorer.features)
    rollouts.require_untaught(policy)
    measured = rollouts.measure(scorer, signals)
    calibration = choose(measured, signals, basis, settings)
    check = rollouts.check(measured)
    found, of = recognised(measured, calibration)
    calibration = replace(calibration, recognised=found, judge=check if check.told else None)
    calibration = replace(calibration, world=rollouts.world(measured, calibration))
    calibration.save(file)
    _echo(calibration, found, of)
    _echo_world(calibration.world)
    for line in check.report(str(policy)):
        typer.echo(f"  {line}")
    if not basis.policy_version:
        typer.echo("who drove these roll-outs is not known, so that no bound is claimed (--driver)")
    elif basis.policy_version != scorer.version:
        typer.echo(
            f"the roll-outs were driven by {basis.policy_version}: the bound is claimed where that "
            f"policy drives beside this judge, {scorer.version}"
        )
    typer.echo(f"written: {file}")


def _echo(calibration: Calibration, found: int, of: int) -> None:
    c = calibration
    typer.echo(
        f"{c.episodes} roll-outs of {c.basis.timeout_s:g} s at most, {c.successes} succeeded"
    )
    rows = {f"completion ({c.signals.level} above)": c.completion, **c.alarms}
    for name, bound in rows.items():
        typer.echo(
            f"  {name:<24} {bound.threshold:7.3f}   exceeded in at most {bound.rate:.4f} of "
            f"episodes (rank {bound.rank} of n {bound.n}, quantile {bound.quantile:.4f})"
        )
    if of:
        low, high = wilson_interval(found, of)
        typer.echo(
            f"  of these successes {found}/{of} are recognised within "
            f"{c.settings.verdict_s:g} s after the fact ({low:.2f} to {high:.2f}, Wilson 95 %)"
        )


def _echo_world(world: World | None) -> None:
    """What the supervisor will watch, and what it cannot."""
    if world is None:
        return
    if world.drift is None:
        typer.echo("  drift of scores: not watched, too few roll-outs last long enough")
    for name, camera in world.cameras.items():
        typer.echo(
            f"  {name}: moves beyond {camera.shift_px:.1f} px or {camera.turn_deg:.1f}° are told"
        )
    for name, why in world.loose.items():
        typer.echo(f"  {name}: moves are not told: {why}")
