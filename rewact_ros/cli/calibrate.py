"""`rewact calibrate`: the monitor's thresholds with stated error rates, from recorded roll-outs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewact_ros.cli.calibrate_report import report, report_driver
from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.data.bags.day_settings import DaySource
from rewact_ros.learning.evaluation.settings import RolloutSource
from rewact_ros.supervision.calibration import Calibration, CalibrationSettings
from rewact_ros.supervision.conformal import calibrate as choose
from rewact_ros.supervision.conformal import check_counts, recognised, suspects
from rewact_ros.supervision.signals import SignalSettings
from rewact_ros.text import printable

if TYPE_CHECKING:
    from rewact_ros.data.bags.day import Day
    from rewact_ros.learning.evaluation.scorers import Scorer
    from rewact_ros.reward.judge_check import JudgeCheck
    from rewact_ros.supervision.episode_signals import CalibrationEpisode


@with_options
def calibrate(
    policy: Annotated[
        Path | None,
        typer.Option(help="Checkpoint folder to judge with: policy, classifier, reward model."),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Roll-outs to judge, judging off (`rewact eval --record`).")
    ] = None,
    *,
    bags: Annotated[
        Path | None,
        typer.Option(help="Instead of --dataset: recordings of ordinary work, judged by people."),
    ] = None,
    standing: Annotated[
        bool, typer.Option("--standing", help="Say which rates --bags supports so far, no more.")
    ] = False,
    of_source: Annotated[dict[str, Any], OptionsOf(RolloutSource)],
    of_bags: Annotated[dict[str, Any], OptionsOf(DaySource, only=("reaction_s", "leave_unjudged"))],
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
    from rewact_ros.learning.evaluation.scorers import open_scorer
    from rewact_ros.policy.checkpoint_files import CALIBRATION
    from rewact_ros.runs import require_writable

    settings = CalibrationSettings(**asked)
    if (bags is None) == (dataset is None):
        raise ValueError("calibrate: expected either --dataset or --bags, got both or neither")
    if bags is not None:
        of_bags |= {name: of_source[name] for name in ("timeout_s", "driver")}
    if standing:
        return _stand(bags, of_bags, settings)
    if policy is None:
        raise ValueError("calibrate: expected --policy, whose score is calibrated, got none")
    scorer = open_scorer(policy, device)
    file = out or policy / CALIBRATION
    require_writable(file.absolute().parent)
    signals = SignalSettings(level=scorer.level, **of_signals)
    if bags is not None:
        measured, calibration = _of_bags(
            DaySource(bags, **of_bags), scorer, signals, settings, device
        )
        check = None
    else:
        assert dataset is not None
        source = RolloutSource(dataset, **of_source)
        measured, calibration, check = _of_rollouts(source, scorer, signals, settings)
    found, of = recognised(measured, calibration)
    told = check if check is not None and check.told else None
    calibration = replace(calibration, recognised=found, judge=told)
    calibration.save(file)
    report(calibration, measured, found, of)
    for line in check.report(str(policy)) if check is not None else ():
        typer.echo(f"  {line}")
    report_driver(calibration.basis.policy_version, scorer.version)
    typer.echo(f"written: {file}")


def _of_rollouts(
    source: RolloutSource, scorer: Scorer, signals: SignalSettings, settings: CalibrationSettings
) -> tuple[list[CalibrationEpisode], Calibration, JudgeCheck]:
    from rewact_ros.learning.evaluation.calibrate import Rollouts, rollout_basis

    basis = rollout_basis(scorer, source)
    rollouts = Rollouts(source)
    check_counts(*rollouts.count(basis.timeout_s), settings, scorer.features)
    rollouts.require_untaught(scorer.path)
    measured = rollouts.measure(scorer, signals, settings.groups)
    calibration = choose(measured, signals, basis, settings)
    return measured, calibration, rollouts.check(measured, calibration.signals.completion)


def _of_bags(
    source: DaySource,
    scorer: Scorer,
    signals: SignalSettings,
    settings: CalibrationSettings,
    device: str,
) -> tuple[list[CalibrationEpisode], Calibration]:
    from rewact_ros.data.bags.day import only_day
    from rewact_ros.data.bags.day_signals import DaySignals, Score, day_basis

    day = only_day(source)
    trained_under = scorer.contract["hash"] if scorer.contract else ""
    score = Score(scorer.path, scorer.reward_hash, trained_under)
    contract, basis = day_basis(score, day)
    _show(day, settings)
    measuring = DaySignals(day, score, contract, settings, device)
    measured = measuring.episodes(signals)
    if measuring.again:
        typer.echo(f"  {measuring.again} of them were scored anew: another judge spoke in them")
    calibration = choose(measured, signals, basis, settings)
    for name in suspects(measured, calibration):
        typer.echo(f"  look again at {printable(name)}: judged a failure, scores like a success")
    return measured, calibration


def _stand(bags: Path | None, of_bags: dict[str, Any], settings: CalibrationSettings) -> None:
    from rewact_ros.data.bags.day import read_days

    if bags is None:
        raise ValueError("calibrate --standing: expected --bags, got none")
    for day in read_days(DaySource(bags, **of_bags)):
        _show(day, settings)


def _show(day: Day, settings: CalibrationSettings) -> None:
    """Episodes by kind, and which rates they support."""
    typer.echo(f"{day.source.bags}, led by {printable(day.driver) or 'an unknown policy'}:")
    for what, count, use in day.table(settings.attended):
        typer.echo(f"  {count:4d}  {printable(what):<40}  {use}")
    typer.echo(f"  {day.standing.standing(settings)}")
