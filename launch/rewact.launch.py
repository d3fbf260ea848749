"""`ros2 launch rewact_ros rewact.launch.py`: the same processes as `rewact up`.

Every argument and default comes from `rewact_ros.stack.arguments.BringUp`;
`ros2 launch … --show-args` lists them.
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import fields

from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from launch import LaunchContext, LaunchDescription
from rewact_ros.restarts import RESPAWN_DELAY_S, Restarts
from rewact_ros.settings import meaning
from rewact_ros.stack.arguments import BringUp, check_names
from rewact_ros.stack.bringup import Process, processes
from rewact_ros.stack.interpreters import check_interpreters
from rewact_ros.stack.judge_warning import judge_warnings
from rewact_ros.stack.robot_lock import BringUpError, RobotLock


def _read(context: LaunchContext) -> BringUp:
    check_names(context.launch_configurations)
    return BringUp.from_texts(
        {f.name: LaunchConfiguration(f.name).perform(context) for f in fields(BringUp)}
    )


def _lock(context: LaunchContext, args: BringUp) -> None:
    """One robot per domain and namespace, for as long as this launch."""
    outer = context.launch_configurations.get("ros_namespace")  # of a launch file around this one
    inner = args.namespace or None
    lock = RobotLock(make_namespace_absolute(prefix_namespace(outer, inner)) or "")
    context.extend_globals({f"rewact_lock_{id(lock)}": lock})


def _watch(
    process: Process, restarts: Restarts
) -> Callable[[ProcessExited, LaunchContext], EmitEvent | None]:
    def on_exit(event: ProcessExited, context: LaunchContext) -> EmitEvent | None:
        if context.is_shutdown:
            return None
        end = restarts.end(process.name, event.returncode, time.monotonic(), process.respawn)
        if end and process.essential:
            raise BringUpError(end)  # the launch stops what runs, and ends with an exit code of 1
        if end:
            get_logger("rewact").warning(f"{end}; all else goes on without it")
            # Else the launch would start it again for ever.
            return EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action)))
        return None

    return on_exit


def _prefix(process: Process) -> list[str] | None:
    """What stands before a process's script: another interpreter, less of the cores."""
    aside = ["nice", "-n", str(process.niceness)] if process.niceness else []
    # The torch nodes may live in a virtual environment while all else uses the system's Python.
    python = [process.python] if process.own_python else []
    return [shlex.join([*aside, *python])] if aside or python else None


def _node(process: Process, restarts: Restarts) -> Node:
    # A text stays one, even where YAML would read it as a number.
    parameters = {
        name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for name, value in process.parameters.items()
    }
    return Node(
        package="rewact_ros",
        executable=process.name,
        exec_name=process.name,
        name=process.name,
        namespace=process.namespace,
        parameters=[process.params_file, parameters] if process.params_file else [parameters],
        remappings=list(process.remappings),
        ros_arguments=["--log-level", process.log_level],
        prefix=_prefix(process),
        additional_env=process.environment,
        respawn=process.respawn,
        respawn_delay=RESPAWN_DELAY_S,
        on_exit=_watch(process, restarts),
        output="screen",
        emulate_tty=True,
    )


def _start(context: LaunchContext) -> list[Node]:
    args = _read(context)
    nodes, restarts = processes(args), Restarts()
    _lock(context, args)
    for line in check_interpreters(nodes):
        get_logger("rewact").info(line)
    for line in judge_warnings(nodes):
        get_logger("rewact").warning(line)
    return [_node(process, restarts) for process in nodes]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the processes."""
    arguments = [
        DeclareLaunchArgument(
            field.name,
            default_value=str(field.default).lower(),
            description=meaning(field.metadata),
        )
        for field in fields(BringUp)
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_start)])
