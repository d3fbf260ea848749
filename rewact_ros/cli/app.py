"""The command table of `rewact`."""

from importlib.metadata import version
from typing import Annotated

import typer

from rewact_ros.cli.bag import bag
from rewact_ros.cli.bench import bench
from rewact_ros.cli.calibrate import calibrate
from rewact_ros.cli.compare import compare
from rewact_ros.cli.console import console
from rewact_ros.cli.contract import app as contract_app
from rewact_ros.cli.convert import convert
from rewact_ros.cli.dataset import app as dataset_app
from rewact_ros.cli.demo import demo
from rewact_ros.cli.demos import demos
from rewact_ros.cli.doctor import doctor
from rewact_ros.cli.evaluate import evaluate
from rewact_ros.cli.export import export
from rewact_ros.cli.finetune import finetune
from rewact_ros.cli.label import label
from rewact_ros.cli.label_frames import label_frames
from rewact_ros.cli.learn import learn
from rewact_ros.cli.params import params
from rewact_ros.cli.record import record
from rewact_ros.cli.replay import replay
from rewact_ros.cli.robot import COMMANDS as ROBOT_COMMANDS
from rewact_ros.cli.shadow import shadow
from rewact_ros.cli.swap import swap
from rewact_ros.cli.teleop import teleop
from rewact_ros.cli.train import train
from rewact_ros.cli.train_classifier import train_classifier
from rewact_ros.cli.train_reward import train_reward
from rewact_ros.cli.up import up
from rewact_ros.cli.visualise import visualise

app = typer.Typer(
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


for command in (up, demo, teleop, replay, demos, label, train, convert, bench, params, visualise):
    app.command()(command)
app.command("eval")(evaluate)
app.command()(compare)
for command in (label_frames, train_classifier, train_reward, calibrate):
    app.command()(command)
app.command()(record)
app.command()(console)
app.add_typer(bag, name="bag")
app.add_typer(contract_app, name="contract")
app.add_typer(dataset_app, name="dataset")
app.command()(export)
app.command()(shadow)
for command in (finetune, learn, *ROBOT_COMMANDS, doctor, swap):
    app.command()(command)
