"""`rewact teleop`: move the robot by the keys of a terminal."""

from typing import Annotated

import typer


def teleop(
    contract: Annotated[
        str, typer.Option(help="Contract file of the robot; default: the simulated arm.")
    ] = "",
    source: Annotated[str, typer.Option(help="Teleop source of the contract.")] = "keyboard",
    namespace: Annotated[str, typer.Option(help="Namespace of the robot, such as left.")] = "",
) -> None:
    """Jog the robot by keys: each press moves a little, and half a second later lets go."""
    from rewact_ros.cli.teleop_terminal import run

    run(contract, source, namespace)
