"""The loop of a study: trial after trial until the comparison is finished."""

from collections.abc import Callable

from .journal import Course, Journal, Result
from .sequential import PairedComparison
from .study import Study, StudyError, Trial

_ATTEMPTS = 3  # at one trial, before a person should look


def run_trials(
    study: Study,
    journal: Journal,
    comparison: PairedComparison,
    drive: Callable[[Trial], Result],
    say: Callable[[str], None],
) -> None:
    """Drive what is left of a study, and note its end in the journal.

    An exception of ``drive`` goes through: the trial is lost, and driven again when the study goes
    on. The rule to stop is asked between blocks only, for each has every version once.

    Args:
        study: as it was begun.
        journal: of it, open.
        comparison: has seen nothing yet.
        drive: one trial.
        say: told how far it is; no line names a version.

    Raises:
        StudyError: a trial could not be scored several times in a row.
    """
    course, size = journal.course, len(study.versions)
    most = comparison.settings.most_blocks
    added = 0
    while not course.ended:
        blocks = course.blocks(study)
        for block in blocks[added:]:
            comparison.add(block)
        added = len(blocks)
        if len(course.results) == added * size and (why := comparison.state.finished):
            journal.ended(why)
            return
        trial = course.next(study)
        say(where(study, course, most))
        journal.began(trial)
        result = drive(trial)
        journal.result(trial, result)
        if result.score is None:
            _require_patience(course, trial, result)


def where(study: Study, course: Course, most_blocks: int) -> str:
    """The trial that is due in one line: its number and code, and nothing of its version."""
    trial = course.next(study)
    size = len(study.versions)
    return (
        f"trial {len(course.results) + 1} (at most {most_blocks * size}), "
        f"block {trial.block + 1}, code {trial.code}"
    )


def _require_patience(course: Course, trial: Trial, result: Result) -> None:
    place = trial.block, trial.slot
    if course.unscored.count(place) % _ATTEMPTS == 0:
        raise StudyError(
            f"trial {trial.code} could not be scored {course.unscored.count(place)} times "
            f"({result.about.get('reason', 'no reason given')}); mend that, then go on by the same "
            "command"
        )
