"""`rewact calibrate`: the monitor's thresholds with stated error rates, from recorded roll-outs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rewact_ros.supervision.calibration import Calibration


def calibrate(
    policy: Annotated[Path, typer.Option(help="Checkpoint folder to judge with.")],
    dataset: Annotated[
        Path, typer.Option(help="Roll-outs of it, judging off (`rewact eval --record`).")
    ],
    episodes: Annotated[str, typer.Option(help="Such as 0:100; empty: all.")] = "",
    beta: Annotated[float, typer.Option(help="False completions per episode, at most.")] = 0.05,
    alpha: Annotated[
        float, typer.Option(help="False alarms per successful episode, at most.")
    ] = 0.05,
    timeout: Annotated[
        float, typer.Option(min=0.0, help="Of the roll-outs in s; 0: as the dataset says.")
    ] = 0.0,
    verdict: Annotated[
        float, typer.Option(help="An alarm so long after the true success still counts as false.")
    ] = 0.5,
    fit_fraction: Annotated[
        float, typer.Option(help="Of the successes, for fitting the novelty alone.")
    ] = 0.25,
    seed: Annotated[int, typer.Option(min=0, help="Chooses those.")] = 0,
    filter_s: Annotated[float, typer.Option(help="Time constant of the reward's filter.")] = 0.1,
    dwell: Annotated[int, typer.Option(help="Samples above the threshold, of --window.")] = 8,
    window: Annotated[int, typer.Option(help="Samples that completion looks back on.")] = 10,
    driver: Annotated[
        str, typer.Option(help="Version that drove; empty: as the dataset says.")
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="File (default: calibration.json in the checkpoint).")
    ] = None,
) -> None:
    """Choose thresholds that keep the rates of false completions and false alarms."""
    from rewact_ros.learning.evaluation.calibrate import (
        Rollouts,
        RolloutSource,
        rollout_basis,
        signal_settings,
    )
    from rewact_ros.policy.checkpoint import CALIBRATION, load_policy
    from rewact_ros.runs import require_writable
    from rewact_ros.supervision.calibration import CalibrationSettings
    from rewact_ros.supervision.conformal import calibrate as choose
    from rewact_ros.supervision.conformal import check_counts, recognised

    settings = CalibrationSettings(beta, alpha, verdict, fit_fraction, seed)
    loaded = load_policy(policy, device)
    file = out or policy / CALIBRATION
    require_writable(file.absolute().parent)
    source = RolloutSource(dataset, episodes, timeout, driver)
    signals = signal_settings(loaded, filter_s=filter_s, dwell=dwell, window=window)
    basis = rollout_basis(loaded, source)
    rollouts = Rollouts(source)
    check_counts(*rollouts.count(basis.timeout_s), settings)
    measured = rollouts.measure(loaded, signals)
    calibration = choose(measured, signals, basis, settings)
    calibration.save(file)
    _echo(calibration, *recognised(measured, calibration))
    if basis.policy_version != loaded.version:
        typer.echo(
            f"the roll-outs were driven by {basis.policy_version or 'an unknown policy'}, not by "
            f"{loaded.version}: the thresholds apply, but no bound is claimed for it"
        )
    typer.echo(f"written: {file}")


def _echo(calibration: "Calibration", found: int, of: int) -> None:
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
        typer.echo(
            f"  of these successes {found}/{of} are recognised within "
            f"{c.settings.verdict_s:g} s after the fact"
        )
