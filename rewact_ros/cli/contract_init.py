"""A contract from what is there: the sources are read, compared, and written down."""

import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from rewact_ros.contract.choices import Choices, Question
from rewact_ros.contract.conflicts import conflicts
from rewact_ros.contract.draft import draft
from rewact_ros.contract.found import Found, merge
from rewact_ros.contract.problems import ContractError
from rewact_ros.contract.questions import open_questions
from rewact_ros.contract.urdf import read_urdf_file
from rewact_ros.files import replace_file


def find(
    graph: bool,
    controllers: bool,
    urdf: Path | None,
    dataset: Path | None,
    bag: Path | None,
    checkpoint: Path | None,
    namespace: str = "/",
    seconds: float = 3.0,
) -> Found:
    """Everything that the named sources tell; files first, for they may be refused."""
    from rewact_ros.contract.names import check_namespace

    space, parts = check_namespace("--namespace", namespace), []
    if not (graph or urdf or dataset or bag or checkpoint):
        raise ContractError(
            "contract init: expected a source: --graph, --urdf, --dataset, --bag or --checkpoint"
        )
    if urdf:
        parts.append(read_urdf_file(urdf))
    if dataset or bag or checkpoint:
        from rewact_ros.data.contract_facts import read_bag, read_checkpoint, read_dataset

        parts += [read_dataset(dataset)] if dataset else []
        parts += [read_checkpoint(checkpoint)] if checkpoint else []
        parts += [read_bag(bag, space)] if bag else []
    if graph:
        from rewact_ros.ros.graph_facts import open_graph

        parts.insert(0, open_graph(space, seconds, controllers))
    return merge(parts)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        guesses: keys of the lines that are guesses.
        model: the URDF beside the contract, where it is needed and had no file; else None.
    """

    guesses: list[str]
    model: Path | None = None


def write(found: Found, out: Path, choices: Choices | None = None) -> Written:
    """Write the contract of what was found, and the model beside it where `kinematics` needs one.

    Raises:
        ContractError: the sources disagree, there is too little, or the file is there already.
    """
    check_new(out)
    if lines := conflicts(found, choices):
        raise ContractError("\n  ".join([f"the sources disagree in {len(lines)} places", *lines]))
    beside = out.with_suffix(".urdf")
    file = found.urdf.absolute() if isinstance(found.urdf, Path) else Path(beside.name)
    try:
        made = draft(found, choices, file if found.urdf else None)
    except ValueError as error:
        raise ContractError(str(error)) from None
    needs = "\nkinematics:\n" in made.text and isinstance(found.urdf, str)
    if needs:
        check_new(beside)
        replace_file(beside, str(found.urdf))
    replace_file(out, made.text)
    return Written(made.guesses, beside if needs else None)


def check_new(out: Path) -> None:
    """Refuse a file that is there; raises ContractError."""
    if out.exists():
        raise ContractError(f"{out}: exists; name a file that does not, and compare the two")


def ask(found: Found, choices: Choices) -> Choices:
    """Ask what the sources leave open, one after the other, on a terminal.

    An empty answer takes the default, which is what counts without a terminal as well.
    """
    done: set[str] = set()
    while left := [q for q in open_questions(found, choices) if q.option not in done]:
        question = left[0]
        if question.option != "--command":
            done.add(question.option)
        choices = question.answered(choices, _answer(question))
    return choices


def on_a_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _answer(question: Question) -> str:
    text = f"{question.text} ({question.option})"
    if not question.candidates:
        kind = float if question.option == "--rate-hz" else str
        return str(typer.prompt(text, default=question.default, type=kind))
    typer.echo(f"{text}:")
    for i, candidate in enumerate(question.candidates, 1):
        typer.echo(f"  {i}  {candidate}")
    choice = typer.prompt("Number", default=1, type=typer_range(len(question.candidates)))
    return question.candidates[int(choice) - 1]


def typer_range(count: int) -> object:
    """1 to `count`, asked again for anything else."""
    import click

    return click.IntRange(1, count)
