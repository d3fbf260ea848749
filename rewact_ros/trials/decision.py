"""What decides a study, made from the settings that its file has."""

from dataclasses import fields
from pathlib import Path

from rewact_ros.supervision.calibration import load_calibration

from .judged import JudgeErrors
from .sequential import PairedComparison, SequentialSettings
from .study import Study, StudyError

_JUDGE = ("judge_false_completions", "judge_detection", "judge_risk")


def settings_of[S](group: type[S], study: Study) -> S:
    """Settings of a kind, as the study began with them."""
    try:
        return group(**{f.name: study.settings[f.name] for f in fields(group)})  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"study: settings: expected those of {group.__name__}, got others ({error}); it is of "
            "another version of rewact_ros: end it there, or give another --name"
        ) from error


def comparison_of(study: Study) -> PairedComparison:
    """What decides, before it has seen a block."""
    rates = [study.settings.get(name) for name in _JUDGE]
    judge = None if None in rates else JudgeErrors(*rates)  # type: ignore[arg-type]
    names = [version.name for version in study.versions]
    return PairedComparison(names, settings_of(SequentialSettings, study), judge)


def require_hope(study: Study) -> None:
    """Refuse a study that would be given up before its first block."""
    comparison = comparison_of(study)
    if comparison.state.finished:
        settings = comparison.settings
        raise ValueError(
            f"--most-blocks {settings.most_blocks}: too few to find a difference of "
            f"{settings.gap:g}; allow more (`--plan` tells), look for a larger --gap, or give "
            "--futility 0 to drive them all the same"
        )


def judge_rates(calibration: str) -> dict[str, float]:
    """Within which rates the supervisor's judge errs; nothing where no calibration is given.

    They stand in the study's file: a calibration that is made anew meanwhile changes nothing.
    """
    if not calibration:
        return {}
    errors = JudgeErrors.of(load_calibration(Path(calibration)))
    return dict(zip(_JUDGE, (errors.false_completions, errors.detection, errors.risk), strict=True))
