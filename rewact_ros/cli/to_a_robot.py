"""The table of the commands to a running robot alone; `cli/app.py` has them among all others."""

import typer

from rewact_ros.cli.doctor import doctor
from rewact_ros.cli.robot import COMMANDS
from rewact_ros.cli.swap import swap

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
for command in (*COMMANDS, doctor, swap):
    app.command()(command)
