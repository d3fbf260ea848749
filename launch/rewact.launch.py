"""`ros2 launch rewact_ros rewact.launch.py`: the same processes as `rewact up`.

Every argument and default comes from `rewact_ros.bringup.BringUp`; `ros2 launch … --show-args`
lists them.
"""

from dataclasses import fields

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from rewact_ros.bringup import BringUp, Process, processes

# Shown by --show-args.
MEANING = {
    "contract": "contract file of the robot; empty: the simulated arm with its policy",
    "policy": "checkpoint folder; none (or empty with a contract): no policy",
    "params_file": "ROS parameter file for all nodes, like config/params.yaml",
    "namespace": "prefix of all topics: one robot each",
    "use_sim_time": "follow /clock",
    "device": "auto, cpu or cuda",
    "dry_run": "compute commands, publish none",
    "reward_only": "the policy publishes its reward and no actions; another one acts",
    "success_model": "folder of a success classifier, which the supervisor then requires as well",
    "teleop": "teleop source to start: a gamepad of the contract, or scripted_human",
    "bags_dir": "folder of recordings, one per episode; empty: no recorder",
    "learn": "folder of a learning run, whose newest version runs and explores; empty: none",
    "sim": "simulate the robot of the contract",
    "ml_python": "interpreter of what needs PyTorch or MuJoCo, e.g. of .venv beside a stock ROS",
    "seed": "first scene of the simulated robot",
    "real_time_factor": "speed of the simulated robot; other than 1 needs use_sim_time",
}


def _read(context: LaunchContext) -> BringUp:
    values = {}
    for field in fields(BringUp):
        text = LaunchConfiguration(field.name).perform(context)
        kind = type(field.default)
        values[field.name] = text.lower() in ("true", "1", "yes") if kind is bool else kind(text)
    return BringUp(**values)


def _node(process: Process) -> Node:
    parameters = [process.params_file] if process.params_file else []
    # `prefix` runs the installed script with another interpreter: the torch nodes may live in a
    # virtual environment while everything else uses the system's Python.
    return Node(
        package="rewact_ros",
        executable=process.name,
        name=process.name,
        namespace=process.namespace,
        parameters=[*parameters, process.parameters],
        prefix=[process.python] if process.own_python else None,
        additional_env=process.environment,
        respawn=process.respawn,
        respawn_delay=0.5,
        output="screen",
        emulate_tty=True,
    )


def _start(context: LaunchContext) -> list[Node]:
    return [_node(process) for process in processes(_read(context))]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the processes."""
    arguments = [
        DeclareLaunchArgument(
            field.name, default_value=str(field.default), description=MEANING[field.name]
        )
        for field in fields(BringUp)
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_start)])
