"""The command table of `rewact`."""

import typer

from rewact_ros.cli.demo import demo
from rewact_ros.cli.params import params
from rewact_ros.cli.replay import replay
from rewact_ros.cli.up import up

app = typer.Typer(
    help="RewACT on ROS 2: a policy that acts and says how far the task has come.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(up)
app.command()(demo)
app.command()(replay)
app.command()(params)
