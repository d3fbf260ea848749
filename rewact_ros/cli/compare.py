"""`rewact compare`: policies against each other, blinded, until the difference is decided."""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from rewact_ros.cli.options import OptionsOf, TaskName, with_options
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.sim.task import DEFAULT_TASK
from rewact_ros.text import printable
from rewact_ros.trials.decision import comparison_of, judge_rates, require_hope, settings_of
from rewact_ros.trials.sequential import SequentialSettings
from rewact_ros.trials.settings import TrialSettings

if TYPE_CHECKING:
    from rewact_ros.policy.checkpoint_files import CheckpointFiles
    from rewact_ros.trials.journal import Result
    from rewact_ros.trials.study import Study, Trial

_SEED_BITS = 48
_BASE = 0.7  # success of the worse version that the plan assumes
_TYPED = "COMMANDLINE"  # of click's ParameterSource, which typer may bring itself


class _Place(NamedTuple):
    """What may be another one when the study goes on."""

    namespace: str
    unattended: bool
    device: str


@with_options
def compare(
    context: typer.Context,
    policies: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoint folders, two or more; none: those of the study --name."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Of the study, whose folder is runs/compare/NAME.")
    ] = "study",
    task: TaskName = DEFAULT_TASK,
    robot: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="On the robot that runs, armed by you: the task it is told."
        ),
    ] = "",
    *,
    decided: Annotated[dict[str, Any], OptionsOf(SequentialSettings)],
    judged: Annotated[dict[str, Any], OptionsOf(TrialSettings)],
    driven: Annotated[dict[str, Any], OptionsOf(RolloutSettings)],
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of orders and codes; default: drawn, and not shown.")
    ] = None,
    unattended: Annotated[
        bool, typer.Option("--unattended", help="The robot resets its scene itself; no keys.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="Namespace of the robot.")] = "",
    device: Annotated[str, typer.Option(help="In simulation: auto, cpu or cuda.")] = "auto",
    plan: Annotated[bool, typer.Option("--plan", help="Only tell how many blocks it takes.")] = (
        False
    ),
    report: Annotated[
        bool, typer.Option("--report", help="Only tell where the study stands.")
    ] = False,
    end: Annotated[
        bool, typer.Option("--end", help="End the study early, for good, and unblind it.")
    ] = False,
) -> None:
    """Drive policies in blinded, shuffled blocks until one is proved better; Ctrl-C pauses."""
    from rewact_ros.trials.study import Study, has_study, read_study, require_same

    asked = {
        "task": task,
        "robot": robot,
        **asdict(SequentialSettings(**decided)),
        **asdict(TrialSettings(**judged)),
        **asdict(RolloutSettings(**driven)),
    }
    if plan:
        return _echo_plan(SequentialSettings(**decided))
    folder = _folder(name)
    if report or end:
        return _look(folder, end)
    if has_study(folder) or not policies:
        study = read_study(folder)
        require_same(folder, study, {key: asked[key] for key in _given(context)})
        if seed is not None and seed != study.seed:
            raise ValueError(f"--seed: {folder} has one of its own; leave it out, or take another")
    else:
        asked |= judge_rates(str(asked["calibration"]))
        study = Study((), secrets.randbits(_SEED_BITS) if seed is None else seed, asked)
    _run(folder, study, policies or [], _Place(namespace, unattended, device))


def _run(folder: Path, study: "Study", paths: Sequence[Path], place: _Place) -> None:
    """Drive what is left, then report; a new study has no versions yet."""
    from rewact_ros.trials.journal import Journal
    from rewact_ros.trials.run import run_trials
    from rewact_ros.trials.study import begin_study

    new = not study.versions
    study, checkpoints = _checked(folder, study, paths)
    with _held(folder), ExitStack() as stack:
        if new or not _ended(folder, study):
            if new:
                _echo_plan(settings_of(SequentialSettings, study))
                require_hope(study)
            drive = stack.enter_context(_drive(folder, study, checkpoints, place))
            if new:
                begin_study(folder, study)
            journal = stack.enter_context(Journal(folder, study))
            try:
                run_trials(study, journal, comparison_of(study), drive, typer.echo)
            finally:
                if not journal.course.ended:
                    typer.echo(
                        f"paused; `rewact compare --name {folder.name}` goes on, blinded; with "
                        "--end it ends for good"
                    )
    _echo_report(folder, study)


def _checked(
    folder: Path, study: "Study", paths: Sequence[Path]
) -> tuple["Study", list["CheckpointFiles"]]:
    """The study with its versions, whose files are read once: what is checked is what runs."""
    from rewact_ros.policy.checkpoint_files import open_folder
    from rewact_ros.trials.study import named_versions, require_versions

    chosen = list(paths) or [Path(version.path) for version in study.versions]
    read = [open_folder(path.expanduser().resolve()) for path in chosen]
    if study.versions:
        require_versions(folder, study, {str(files.path): files.sha256 for files in read})
    else:
        study = replace(study, versions=named_versions([(f.path, f.sha256) for f in read]))
    by_path = {str(files.path): files for files in read}
    return study, [by_path[version.path] for version in study.versions]


@contextmanager
def _drive(
    folder: Path, study: "Study", checkpoints: Sequence["CheckpointFiles"], place: _Place
) -> Iterator[Callable[["Trial"], "Result"]]:
    """What drives a trial of the study, once every version fits the robot."""
    trials = settings_of(TrialSettings, study)
    text = str(study.settings["robot"])
    if place.unattended and (not text or trials.judge == "person"):
        raise ValueError("--unattended: expected --robot and --judge supervisor with it")
    if not text:
        from rewact_ros.learning.evaluation.simulated_trials import simulated_trials

        rollouts = settings_of(RolloutSettings, study)
        task = str(study.settings["task"])
        with simulated_trials(checkpoints, task, trials, rollouts, place.device) as drive:
            yield drive
        return
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from rewact_ros.stack.robot_trials import robot_trials
    from rewact_ros.stack.trial_desk import at_desk

    with ExitStack() as stack:
        desk = None if place.unattended else stack.enter_context(at_desk(typer.echo))
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        drive = robot_trials(study, checkpoints, folder.name, place.namespace, text, trials, desk)
        stack.callback(typer.echo, "the robot runs a trial's copy: `rewact swap` gives it another")
        yield stack.enter_context(drive)


def _look(folder: Path, end: bool) -> None:
    """Where a study stands; unblinded where it has ended, or is ended now."""
    from rewact_ros.trials.journal import STOPPED, Journal, read_course
    from rewact_ros.trials.report import counts
    from rewact_ros.trials.study import read_study

    study = read_study(folder)
    if end and not _ended(folder, study):
        with _held(folder), Journal(folder, study) as journal:
            journal.ended(STOPPED)
    if _ended(folder, study):
        return _echo_report(folder, study)
    most = settings_of(SequentialSettings, study).most_blocks
    typer.echo(counts(study, read_course(folder, study), most))


def _echo_report(folder: Path, study: "Study") -> None:
    from rewact_ros.trials.journal import read_course
    from rewact_ros.trials.report import write_report

    said, files = write_report(folder, study, read_course(folder, study), comparison_of(study))
    typer.echo(said)
    for file in files:
        typer.echo(f"written: {file}")


def _echo_plan(settings: SequentialSettings) -> None:
    """How many blocks two versions may take, before anything moves."""
    from rewact_ros.trials.plan import plan

    typer.echo(plan(settings.gap, settings, min(_BASE, 1.0 - settings.gap)).line)


def _ended(folder: Path, study: "Study") -> bool:
    from rewact_ros.trials.journal import read_course

    return bool(read_course(folder, study).ended)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep a study to this process; a folder that stays empty goes again."""
    from rewact_ros.files import LockedError, locked_folder
    from rewact_ros.trials.study import StudyError

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked_folder(folder):
            try:
                yield
            finally:
                with suppress(OSError):
                    folder.rmdir()
    except LockedError as error:
        raise StudyError(
            f"{folder}: another process drives this study; end that one first"
        ) from error


def _folder(name: str) -> Path:
    """Folder of a study, which is one name and no path."""
    if not re.fullmatch(r"[\w][\w.-]{0,60}", name, re.ASCII):
        raise ValueError(
            f"--name: expected letters, digits, '.', '_' and '-', got {printable(name, 80)!r}"
        )
    return Path("runs", "compare", name)


def _given(context: typer.Context) -> list[str]:
    """Settings of the study that the command line has, by field."""
    options = {"task": "task", "robot": "robot"}
    for group in (SequentialSettings, TrialSettings, RolloutSettings):
        options |= {f.metadata.get("option") or f.name: f.name for f in fields(group)}
    sources = {f: context.get_parameter_source(option) for option, f in options.items()}
    return [f for f, source in sources.items() if source is not None and source.name == _TYPED]
