"""The command table of `rewact`. A command's file is loaded when it is called, and no other."""

import ast
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup
from typer.main import get_command

# Name -> the file in this folder and what it calls there: a function, or a Typer of several.
COMMANDS = {
    "up": ("up", "up"),
    "demo": ("demo", "demo"),
    "teleop": ("teleop", "teleop"),
    "replay": ("replay", "replay"),
    "demos": ("demos", "demos"),
    "label": ("label", "label"),
    "train": ("train", "train"),
    "convert": ("convert", "convert"),
    "bench": ("bench", "bench"),
    "params": ("params", "params"),
    "visualise": ("visualise", "visualise"),
    "eval": ("evaluate", "evaluate"),
    "compare": ("compare", "compare"),
    "label-frames": ("label_frames", "label_frames"),
    "train-classifier": ("train_classifier", "train_classifier"),
    "train-reward": ("train_reward", "train_reward"),
    "calibrate": ("calibrate", "calibrate"),
    "record": ("record", "record"),
    "console": ("console", "console"),
    "export": ("export", "export"),
    "shadow": ("shadow", "shadow"),
    "finetune": ("finetune", "finetune"),
    "learn": ("learn", "learn"),
    "arm": ("robot", "arm"),
    "disarm": ("robot", "disarm"),
    "resume": ("robot", "resume"),
    "take-over": ("robot", "take_over"),
    "release": ("robot", "release"),
    "clear-fault": ("robot", "clear_fault"),
    "confirm-reset": ("robot", "confirm_reset"),
    "verdict": ("robot", "verdict"),
    "task": ("robot", "task"),
    "status": ("robot", "status"),
    "doctor": ("doctor", "doctor"),
    "swap": ("swap", "swap"),
    "bag": ("bag", "bag"),
    "contract": ("contract", "app"),
    "dataset": ("dataset", "app"),
}


class Table(TyperGroup):
    """Commands by name, loaded one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, whose file is loaded now; None: there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        file, what = COMMANDS[cmd_name]
        found: Any = getattr(import_module(f"rewact_ros.cli.{file}"), what)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(
                add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
            )
            alone.command(cmd_name)(found)
            found = alone
        command = get_command(found)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, with the words that stand in the files: none of them is loaded."""
        rows = [(name, _words(*where)) for name, where in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _words(file: str, what: str) -> str:
    """First paragraph of a function's docstring, or the help of a Typer, as its file has it."""
    tree = ast.parse((Path(__file__).parent / f"{file}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == what:
            return (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == what:
            assert isinstance(node.value, ast.Call)
            helps = [k.value for k in node.value.keywords if k.arg == "help"]
            return str(ast.literal_eval(helps[0]))
    raise LookupError(f"{file}.py: no {what}")


app = typer.Typer(
    cls=Table,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut the names of options at 80 columns
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rewact_ros {version('rewact_ros')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """RewACT on ROS 2: a policy that acts and says how far the task has come."""
