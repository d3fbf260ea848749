"""`rewact record`: record demonstrations, judged by keys."""

from typing import Annotated

import typer

from rewact_ros.cli.contract_check import NO_CONTRACT
from rewact_ros.ros.params import RecorderParams


def record(
    contract: Annotated[
        str, typer.Option(help="Contract file of the robot; none: --topics alone.")
    ] = "",
    bags_dir: Annotated[str, typer.Option(help="Folder of all recordings; default: bags.")] = "",
    topics: Annotated[
        str, typer.Option(help="Regular expression of more topics, such as '/tf|/imu/.*'.")
    ] = RecorderParams.topics,
    task: Annotated[str, typer.Option(help="What is being demonstrated.")] = RecorderParams.task,
    operator: Annotated[
        str, typer.Option(help="Who demonstrates and judges.")
    ] = RecorderParams.operator,
    namespace: Annotated[str, typer.Option(help="Namespace of the robot, such as left.")] = "",
    params_file: Annotated[str, typer.Option(help="ROS parameter file, for all the rest.")] = "",
    use_sim_time: Annotated[bool, typer.Option(help="Follow /clock.")] = False,
    attach: Annotated[
        bool, typer.Option(help="Keys for the recorder of `rewact up --bags-dir`.")
    ] = False,
) -> None:
    """Start a recorder and steer it by keys: s starts, y is a success, n a failure, q quits.

    Without a terminal it records the supervisor's episodes, and what recorder/start begins.
    """
    from rewact_ros.stack.bringup import default_contract
    from rewact_ros.stack.keyboard_recorder import record_by_keys

    given = {"bags_dir": bags_dir, "topics": topics, "task": task, "operator": operator}
    if contract != NO_CONTRACT:
        given["contract"] = contract or default_contract()
    parameters: dict[str, str | int | float | bool] = {k: v for k, v in given.items() if v}
    if use_sim_time:
        parameters["use_sim_time"] = True
    record_by_keys(parameters, namespace, params_file, attach)
