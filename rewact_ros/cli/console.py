"""`rewact console`: the operator's page in a browser, for a robot that runs or for none."""

import sys
import time
from typing import Annotated, Any

import typer

from rewact_ros.cli.contract_check import NO_CONTRACT
from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.ros.params import ConsoleParams

POLL_S = 0.1


@with_options
def console(
    contract: Annotated[
        str, typer.Option(help="Contract file of the robot; none: no cameras and no jog.")
    ] = "",
    namespace: Annotated[str, typer.Option(help="Namespace of the robot, such as left.")] = "",
    params_file: Annotated[str, typer.Option(help="ROS parameter file, for all the rest.")] = "",
    values: Annotated[dict[str, Any] | None, OptionsOf(ConsoleParams, but=("contract",))] = None,
) -> None:
    """Serve the console until Ctrl-C; it prints the address to open. `rewact up --console` too."""
    from rewact_ros.stack.bringup import Process, default_contract, transport_environment
    from rewact_ros.stack.runner import Runner, print_line
    from rewact_ros.stack.stop_request import StopRequest

    values = values or {}
    robot = "" if contract == NO_CONTRACT else contract or default_contract(values["task"])
    # What was not given is the file's to say: parameters of a process count more than its file.
    given = {name: v for name, v in values.items() if v != getattr(ConsoleParams, name)}
    process = Process(
        name="console",
        module="rewact_ros.nodes.console",
        parameters={"contract": robot, **given},
        python=sys.executable,
        respawn=True,
        params_file=params_file,
        namespace=namespace,
        environment=transport_environment(),
    )
    with StopRequest() as stop, Runner([process], print_line) as runner:
        while not stop.given:
            runner.poll()
            time.sleep(POLL_S)
