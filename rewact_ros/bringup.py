"""One list of processes for `launch/rewact.launch.py` and `rewact up`."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rewact_ros.contract.names import check_namespace
from rewact_ros.ros.params_file import check_params_file
from rewact_ros.runs import NEWEST, ROBOT_JOURNAL, VERSIONS, is_version
from rewact_ros.share import share_dir

# What a sourced ROS, or the wheels of another environment, put in the way of an interpreter.
SHIELDED = (
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "AMENT_PREFIX_PATH",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)

ParameterValue = str | int | float | bool


@dataclass(frozen=True)
class BringUp:
    """Arguments of a bring-up; both front ends offer exactly these.

    Attributes:
        contract: contract file of the robot; empty: the simulated arm, its policy and its
            simulation, which ship with the package.
        policy: checkpoint folder; empty with a contract, or `none`, starts no policy.
        params_file: ROS parameter file applied to every node before the arguments here.
        namespace: prefix of all topics, such as `left`; one robot per namespace.
        use_sim_time: follow `/clock`.
        device: auto, cpu or cuda.
        dry_run: compute commands and publish none.
        reward_only: the policy publishes its reward and no actions; another one acts.
        success_model: folder of a success classifier; the supervisor then requires it as well.
        teleop: teleop source of the contract that gets its process: a gamepad, or scripted_human.
        bags_dir: folder of recordings, one per episode; empty: no recorder.
        learn: folder of a learning run (`rewact learn`): its newest version runs, explores and is
            renewed, and what is executed goes to its learner; empty: nothing learns.
        sim: start the simulated robot with a contract of your own.
        ml_python: interpreter of the nodes that need PyTorch or MuJoCo, so that these can live in
            the project's own environment beside a stock ROS.
        seed: first scene of the simulated robot.
        real_time_factor: speed of the simulated robot; other than 1 needs use_sim_time.
    """

    contract: str = ""
    policy: str = ""
    params_file: str = ""
    namespace: str = ""
    use_sim_time: bool = False
    device: str = "auto"
    dry_run: bool = False
    reward_only: bool = False
    success_model: str = ""
    teleop: str = ""
    bags_dir: str = ""
    learn: str = ""
    sim: bool = False
    ml_python: str = ""
    seed: int = 300000
    real_time_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.real_time_factor != 1.0 and not self.use_sim_time:
            raise ValueError(
                f"real_time_factor: {self.real_time_factor:g} needs use_sim_time, or ages and "
                "chunk times would run at another speed than the robot"
            )
        for name in ("contract", "params_file"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise ValueError(f"{name}: no such file: {path}")
        check_namespace("namespace", self.namespace)
        if self.params_file:
            check_params_file(self.params_file)
        if self.policy not in ("", "none") and not Path(self.policy).is_dir():
            raise ValueError(f"policy: no such checkpoint folder: {self.policy}")
        if self.success_model and not Path(self.success_model).is_dir():
            raise ValueError(f"success_model: no such checkpoint folder: {self.success_model}")
        if self.learn and self.policy:
            raise ValueError("learn: its versions run; leave policy out")
        if self.learn and not (Path(self.learn) / VERSIONS / NEWEST).is_dir():
            raise ValueError(f"learn: no version in {self.learn}: start `rewact learn` there first")
        if self.teleop == "keyboard":
            raise ValueError("teleop: keys need a terminal of their own: run `rewact teleop` there")


@dataclass(frozen=True)
class Process:
    """One node process: `python -m module --ros-args …`."""

    name: str
    module: str
    parameters: dict[str, ParameterValue]
    python: str
    respawn: bool
    params_file: str = ""
    namespace: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def own_python(self) -> bool:
        """Whether it runs on another interpreter than the rest."""
        return self.python != sys.executable

    def command(self) -> list[str]:
        """Arguments to start it without a shell."""
        args = [self.python, "-u", "-m", self.module, "--ros-args"]
        if self.namespace:
            args += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        if self.params_file:
            args += ["--params-file", self.params_file]
        for key, value in self.parameters.items():
            # JSON quoting keeps YAML from reading a path such as `1e3` as a number.
            text = f'"{value}"' if isinstance(value, str) else str(value).lower()
            args += ["-p", f"{key}:={text}"]
        return args


def default_contract() -> str:
    """Contract of the simulated robot, which ships with the package."""
    return str(share_dir() / "config" / "robots" / "vx300s.yaml")


def default_policy() -> str:
    """Checkpoint of the simulated robot, which ships with the package."""
    return str(share_dir() / "models" / "vx300s_pick_place")


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
    """Processes of one robot, in the order in which they start."""
    contract = args.contract or default_contract()
    sim = args.sim or not args.contract
    run = Path(args.learn).resolve() if args.learn else None
    usual = "" if args.contract else default_policy()
    # By the link: a policy process that dies comes back with the version that is newest then.
    policy = str(run / VERSIONS / NEWEST) if run else args.policy or usual
    ml_python = args.ml_python or sys.executable
    # Another interpreter brings its own ROS and NumPy: a sourced ROS must not shadow them.
    shield = dict.fromkeys(SHIELDED, "") if ml_python != sys.executable else {}
    # Two OpenMP threads on two busy cores can be ten times slower than one.
    environment = {"OMP_NUM_THREADS": "1", **transport_environment()}
    common: dict[str, ParameterValue] = {"use_sim_time": args.use_sim_time}

    def process(
        name: str,
        parameters: dict[str, ParameterValue],
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
        )

    nodes = []
    if sim:
        nodes.append(
            process(
                "sim",
                {
                    "use_sim_time": False,  # it is the clock
                    "contract": contract,
                    "seed": args.seed,
                    "real_time_factor": args.real_time_factor,
                    "stamp_sim_time": args.use_sim_time,
                },
                ml_python,
                shield,
            )
        )
    hil: dict[str, ParameterValue] = {"contract": contract, "dry_run": args.dry_run}
    learned = bool(run) or is_version(Path(policy))
    if learned:
        hil["combine"] = "replace"  # else what was decided is mixed with what was not
    nodes.append(process("hil", hil, more_environment=command_transport_environment()))
    judging: dict[str, ParameterValue] = {"contract": contract}
    if args.dry_run:
        judging["reset_motion"] = False  # nothing can move to a reset pose
    if sim:
        judging["reset_service"] = "sim/reset"
    if policy not in ("", "none"):
        judging["policy"] = policy  # for the calibration beside it
    if args.success_model:
        judging["success_model_required"] = True
    nodes.append(process("supervisor", judging))
    if policy not in ("", "none"):
        acting: dict[str, ParameterValue] = {
            "contract": contract,
            "policy": policy,
            "device": args.device,
            "reward_only": args.reward_only,
        }
        if learned:
            # Every version brings its base along: exporting it anew would stall the running policy.
            acting["engine"] = "torch"
        if run:
            acting |= {"policy_dir": str(run / VERSIONS), "explore": True}
        nodes.append(process("policy", acting, ml_python, shield))
    if run:
        keeping = {"contract": contract, "journal": str(run / ROBOT_JOURNAL)}
        nodes.append(process("transitions", keeping, ml_python, shield))
    if args.success_model:
        classifier = {"contract": contract, "model": args.success_model, "device": args.device}
        nodes.append(process("reward_model", classifier, ml_python, shield))
    if args.teleop:
        name = "scripted_human" if args.teleop == "scripted_human" else "teleop"
        source = {"contract": contract, "source": args.teleop}
        nodes.append(process(name, source, ml_python, shield))
    if args.bags_dir:
        recording: dict[str, ParameterValue] = {"contract": contract, "bags_dir": args.bags_dir}
        calibration = Path(policy) / "calibration.json"
        if policy not in ("", "none") and calibration.is_file():
            recording["calibration"] = str(calibration)
        nodes.append(process("recorder", recording))
    return nodes
