"""One list of processes for `launch/rewact.launch.py` and `rewact up`."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rewact_ros.contract import load_contract
from rewact_ros.policy.checkpoint_files import CALIBRATION
from rewact_ros.policy.task_table import load_tasks
from rewact_ros.runs import NEWEST, ROBOT_JOURNAL, VERSIONS, is_version
from rewact_ros.share import share_dir
from rewact_ros.sim.task import DEFAULT_TASK, find_task
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.shadow import check_shadow

# What a sourced ROS, or the wheels of another environment, put in the way of an interpreter.
SHIELDED = (
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "AMENT_PREFIX_PATH",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)

# What every node imports, and what a node imports besides.
EVERY_NODE = ("rclpy", "numpy", "yaml", "rewact_ros", "rewact_ros.msg")
HEAVY = {
    "policy": ("torch", "lerobot", "safetensors"),
    "shadow_policy": ("torch", "lerobot", "safetensors"),
    "judge": ("torch", "lerobot", "safetensors"),
    "reward_model": ("torch", "lerobot", "safetensors"),
    "transitions": ("safetensors",),
    "lerobot_robot": ("lerobot", "torch"),
}
LIGHT = {"recorder": ("mcap", "zstandard"), "console": ("aiohttp",)}

ParameterValue = str | int | float | bool


# Added to the niceness of a process that must not disturb the others.
ASIDE_NICENESS = 10


@dataclass(frozen=True)
class Process:
    """One node process: `python -m module --ros-args …`.

    Attributes:
        respawn: start it again when it dies.
        essential: the robot does not go on without it; another's end is told, and that is all.
        niceness: added to its own, before it begins.
    """

    name: str
    module: str
    parameters: dict[str, ParameterValue]
    python: str
    respawn: bool
    params_file: str = ""
    namespace: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    log_level: str = "info"
    remappings: tuple[tuple[str, str], ...] = ()
    essential: bool = True
    niceness: int = 0

    @property
    def own_python(self) -> bool:
        """Whether it runs on another interpreter than the rest."""
        return self.python != sys.executable

    @property
    def heavy(self) -> bool:
        """Whether it needs what a robot's own Python may lack."""
        return self.name in HEAVY

    @property
    def needs(self) -> tuple[str, ...]:
        """Modules without which it does not start."""
        needs = EVERY_NODE + HEAVY.get(self.name, ()) + LIGHT.get(self.name, ())
        if self.name in ("sim", "scripted_human"):
            needs += find_task(str(self.parameters.get("task", DEFAULT_TASK))).needs
        return needs

    def command(self) -> list[str]:
        """Arguments to start it without a shell."""
        args = [self.python, "-u", "-m", self.module, "--ros-args"]
        if self.namespace:
            args += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        if self.params_file:
            args += ["--params-file", self.params_file]
        for key, value in self.parameters.items():
            # JSON quoting keeps YAML from reading a path such as `1e3` as a number.
            args += ["-p", f"{key}:={json.dumps(value, ensure_ascii=False)}"]
        for name, other in self.remappings:
            args += ["-r", f"{name}:={other}"]
        return [*args, "--log-level", self.log_level]


def default_contract(task: str = DEFAULT_TASK) -> str:
    """Contract of a simulated task's robot, which comes with the task."""
    return str(find_task(task).contract_file())


def default_policy(task: str = DEFAULT_TASK) -> str:
    """Checkpoint of a simulated task, which comes with it; "": none does."""
    return str(find_task(task).policy_folder() or "")


PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def transport_environment() -> dict[str, str]:
    """Environment that lets raw camera images through; a user's own profile stays in force."""
    return {} if PROFILE in os.environ else {PROFILE: _profile("fastdds.xml")}


def command_transport_environment() -> dict[str, str]:
    """Environment that keeps what other processes do to shared memory from stopping a process.

    For ``hil``, and for whoever measures it; a user's own profile stays in force.
    """
    middleware = os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if PROFILE in os.environ or not middleware.startswith("rmw_fastrtps"):
        return {}
    if os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() != "LOCALHOST":
        return {PROFILE: _profile("fastdds_hil.xml")}
    return {
        PROFILE: _profile("fastdds_hil_localhost.xml"),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",  # of the loopback interface
    }


def _profile(name: str) -> str:
    return str(share_dir() / "config" / name)


def processes(args: BringUp) -> list[Process]:
    """Processes of one robot, in the order in which they start.

    Raises:
        ContractError: its contract is wrong; told once here, not by each node.
        ArgumentError: the shadow policy does not fit the contract, or has nobody to run beside.
    """
    if args.contract:
        load_contract(args.contract, args.namespace or "/")
    contract = args.contract or default_contract(args.task)
    run = Path(args.learn).resolve() if args.learn else None
    table = load_tasks(args.tasks) if args.tasks else None
    usual = "" if args.contract or table else default_policy(args.task)
    # By the link: a policy process that dies comes back with the version that is newest then.
    policy = str(run / VERSIONS / NEWEST) if run else args.policy or usual
    ml_python = args.ml_python or sys.executable
    # Another interpreter brings its own ROS and NumPy: a sourced ROS must not shadow them.
    shield = dict.fromkeys(SHIELDED, "") if ml_python != sys.executable else {}
    # Two OpenMP threads on two busy cores can be ten times slower than one.
    # No module of the folder that somebody stands in takes the place of an installed one.
    environment = {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", **transport_environment()}
    common: dict[str, ParameterValue] = {"use_sim_time": args.use_sim_time}

    def process(
        name: str,
        parameters: Mapping[str, ParameterValue],
        python: str = sys.executable,
        more_environment: dict[str, str] | None = None,
    ) -> Process:
        return Process(
            name=name,
            module=f"rewact_ros.nodes.{name}",
            parameters={**common, **parameters},
            python=python,
            respawn=True,
            params_file=args.params_file,
            namespace=args.namespace,
            environment={**environment, **(more_environment or {})},
            log_level=args.log_level,
            remappings=args.remappings,
        )

    nodes = []
    if args.simulated:
        nodes.append(
            process(
                "sim",
                {
                    "use_sim_time": False,  # it is the clock
                    "contract": contract,
                    "seed": args.seed,
                    "real_time_factor": args.real_time_factor,
                    "stamp_sim_time": args.use_sim_time,
                    "task": args.task,
                },
                ml_python,
                shield,
            )
        )
    if args.lerobot_robot:
        driver = {"contract": contract, "robot_config": args.lerobot_robot}
        nodes.append(process("lerobot_robot", driver, ml_python, shield))
    hil: dict[str, ParameterValue] = {"contract": contract, "dry_run": args.dry_run}
    acting_policies = [row.policy for row in table.rows] if table else [Path(policy)]
    learned = bool(run) or any(is_version(folder) for folder in acting_policies)
    if learned:
        hil["combine"] = "replace"  # else what was decided is mixed with what was not
    acts = table is not None or policy not in ("", "none")
    judged_apart = table.judged_apart if table else bool(args.judge)
    tasks: dict[str, ParameterValue] = {"tasks": args.tasks} if table else {}
    if acts:  # else nothing beats for it
        hil["policy_required"] = True
    nodes.append(process("hil", hil, more_environment=command_transport_environment()))
    judging: dict[str, ParameterValue] = {"contract": contract}
    if args.dry_run:
        judging["reset_motion"] = False  # nothing can move to a reset pose
    if args.simulated:
        judging["reset_service"] = "sim/reset"
    if table:
        judging |= tasks
    elif args.judge or acts:
        judging["policy"] = args.judge or policy  # for the calibration beside it
    if args.calibration:
        judging["calibration"] = args.calibration
    if args.success_model:
        judging["success_model_required"] = True
    nodes.append(process("supervisor", judging))
    if acts:
        acting: dict[str, ParameterValue] = {
            "contract": contract,
            **(tasks or {"policy": policy}),
            "task": args.task,
            "device": args.device,
            "actions_only": judged_apart,
        }
        if learned:
            # Every version brings its base along: exporting it anew would stall the running policy.
            acting["engine"] = "torch"
        if run:
            acting |= {"policy_dir": str(run / VERSIONS), "explore": True}
        nodes.append(process("policy", acting, ml_python, shield))
    if args.shadow:
        check_shadow(args, contract, acts)
        beside = {"contract": contract, "policy": args.shadow, "task": args.task}
        if args.device != "auto":  # else params_file may put it where it disturbs least
            beside["device"] = args.device
        if is_version(Path(args.shadow)):
            beside["engine"] = "torch"
        shadow = process("shadow_policy", beside, ml_python, shield)
        nodes.append(replace(shadow, essential=False, niceness=ASIDE_NICENESS))
    if run:
        keeping = {"contract": contract, "journal": str(run / ROBOT_JOURNAL)}
        nodes.append(process("transitions", keeping, ml_python, shield))
    if judged_apart:
        model = tasks or {"model": args.judge}
        looking = {"contract": contract, **model, "device": args.device}
        nodes.append(process("judge", looking, ml_python, shield))
    if args.success_model:
        classifier = {"contract": contract, "model": args.success_model, "device": args.device}
        nodes.append(process("reward_model", classifier, ml_python, shield))
    if args.teleop:
        name = "scripted_human" if args.teleop == "scripted_human" else "teleop"
        source = {"contract": contract, "source": args.teleop, "task": args.task}
        nodes.append(process(name, source, ml_python, shield))
    if args.bags_dir:
        recording: dict[str, ParameterValue] = {"contract": contract, "bags_dir": args.bags_dir}
        thresholds = Path(args.judge or policy) / CALIBRATION
        if table:
            recording |= tasks
        elif args.calibration or ((args.judge or acts) and thresholds.is_file()):
            recording["calibration"] = args.calibration or str(thresholds)
        if args.shadow:
            recording["shadow"] = True
        nodes.append(process("recorder", recording))
    if args.console:
        looking = {"contract": contract, "bags_dir": args.bags_dir, "task": args.task}
        if run:
            looking |= {"policy_dir": str(run / VERSIONS), "run": str(run)}
        console = process("console", looking)
        nodes.append(replace(console, essential=False, niceness=ASIDE_NICENESS))
    if args.metrics:
        nodes.append(replace(process("metrics", {}), essential=False, niceness=ASIDE_NICENESS))
    return nodes
