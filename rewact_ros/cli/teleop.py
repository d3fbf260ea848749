"""`rewact teleop`: move the robot by the keys of a terminal."""

from typing import Annotated

import typer

from rewact_ros.cli.options import TaskName
from rewact_ros.sim.task import DEFAULT_TASK


def teleop(
    contract: Annotated[
        str, typer.Option(help="Contract file of the robot; default: the task's.")
    ] = "",
    source: Annotated[str, typer.Option(help="Teleop source of the contract.")] = "keyboard",
    namespace: Annotated[str, typer.Option(help="Namespace of the robot, such as left.")] = "",
    task: TaskName = DEFAULT_TASK,
) -> None:
    """Jog the robot by keys: each press moves a little, and half a second later lets go."""
    from rewact_ros.stack.keyboard_teleop import jog_by_keys

    jog_by_keys(contract, source, namespace, task)
