"""Every node parameter, declared once: type, default, unit, bounds and meaning.

ROS descriptors, command-line flags and `config/params.yaml` all come from these dataclasses.
"""

from dataclasses import MISSING, dataclass, fields, make_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rewact_ros.ros.parameter_values import check_value, describe
from rewact_ros.runs import LearnOptions
from rewact_ros.settings import same
from rewact_ros.settings import setting as _param
from rewact_ros.sim.task import DEFAULT_TASK
from rewact_ros.supervision.alarms import ALARMS, Alarm, limit_setting
from rewact_ros.supervision.monitor import Thresholds
from rewact_ros.supervision.signals import SignalSettings
from rewact_ros.supervision.withdrawal import OnWithdrawal

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.parameter import Parameter


@dataclass(frozen=True)
class PolicyParams:
    """Node `policy`."""

    contract: str = _param("", "contract file of the robot")
    policy: str = _param("", "checkpoint folder")
    tasks: str = _param("", "table of tasks, instead: several policies (docs/tasks.md)")
    policy_dir: str = _param(
        "", "the only directory from which rewact/policy_update is taken; empty: updates refused"
    )
    device: str = _param("auto", "where the policy runs", choices=("auto", "cpu", "cuda"))
    engine: str = _param(
        "auto",
        "what runs the network; all but torch are checked against it (docs/engines.md)",
        choices=("auto", "torch", "torch_cuda_graph", "onnxruntime", "openvino"),
    )
    precision: str = _param(
        "fp32", "what the network computes in", choices=("fp32", "bf16", "fp16")
    )
    threads: int = _param(1, "CPU threads of the policy", low=1, high=64)
    explore: bool = _param(False, "a learned policy tries what its critics do not favour yet")
    actions_only: bool = _param(False, "publish no reward: a judge beside it does")
    instruction: str = _param(
        "", "what to do, for a policy that is told so by text, where the task gives no text"
    )
    task: str = _param(
        DEFAULT_TASK, "simulated task whose robot a contract's kinematics without a model is of"
    )
    heartbeat_hz: float = _param(30.0, "rate of policy_status", "Hz", 20.0, 200.0)
    autostart: bool = _param(True, "configure and activate at start")


@dataclass(frozen=True)
class ShadowPolicyParams(PolicyParams):
    """Node `shadow_policy`: those of `policy`, but for what only one that acts can do."""

    tasks: ClassVar[str] = ""  # type: ignore[misc]
    policy_dir: ClassVar[str] = ""  # type: ignore[misc]
    explore: ClassVar[bool] = False  # type: ignore[misc]
    actions_only: ClassVar[bool] = False  # type: ignore[misc]


@dataclass(frozen=True)
class JudgeParams:
    """Node `judge`, whose reward is of what another policy, or a person, does."""

    contract: str = _param("", "contract file of the robot")
    model: str = _param(
        "", "checkpoint folder of a policy with a reward, a classifier, or a LeRobot reward model"
    )
    tasks: str = _param("", "table of tasks, instead: several judges, one for each")
    device: str = same(PolicyParams, "device")
    engine: str = same(PolicyParams, "engine")
    precision: str = same(PolicyParams, "precision")
    threads: int = same(PolicyParams, "threads")
    instruction: str = _param(
        "", "what to do, for a judge that is told so by text, where the task gives no text"
    )


@dataclass(frozen=True)
class HilParams:
    """Node `hil`, the only publisher of robot commands."""

    contract: str = _param("", "contract file of the robot")
    dry_run: bool = _param(False, "do everything but publish commands")
    combine: str = _param(
        "ensemble",
        "how overlapping chunks become one command",
        choices=("replace", "crossfade", "ensemble"),
    )
    ensemble_coefficient: float = _param(
        0.01, "m of ACT's temporal ensembling, weights exp(-m i), oldest first", low=0.0, high=10.0
    )
    interpolation: str = _param(
        "linear", "between two steps of a chunk; cubic is monotone", choices=("linear", "cubic")
    )
    crossfade_s: float = _param(
        0.1, "how long a new chunk takes to replace the older ones", "s", 0.001, 5.0
    )
    priority: int = _param(0, "SCHED_FIFO priority of the control loop; 0: none", low=0, high=99)
    cpu: int = _param(-1, "core that hil stays on; -1: any", low=-1, high=1023)
    lock_memory: bool = _param(False, "keep hil's memory from being paged out")
    lease_timeout_s: float = _param(
        0.3, "silence of the supervisor after which motion stops", "s", 0.1, 5.0
    )
    policy_required: bool = _param(False, "arm only while the policy is ready")
    status_hz: float = _param(10.0, "rate of control_status between changes", "Hz", 1.0, 100.0)


def alarm_fields() -> list[tuple[str, type, Any]]:
    """The parameters of each row of the table of alarms: its threshold and its ladder."""
    limited = [alarm for alarm in ALARMS.values() if alarm.limit]
    return [
        *((alarm.key, float, _limit(alarm)) for alarm in limited),
        *((f"ladder_{a.name}", str, _param(a.ladder, a.ladder_doc)) for a in ALARMS.values()),
    ]


def _limit(alarm: Alarm) -> Any:
    if alarm.limit is None or not alarm.share:
        return limit_setting(alarm.name)
    return limit_setting(alarm.name, doc=f"{alarm.limit.metadata['doc']}, where not calibrated")


@dataclass(frozen=True)
class _CompletionParams:
    """What `supervisor` judges by; the alarms' parameters follow in the file."""

    contract: str = _param("", "contract file of the robot")
    policy: str = _param("", "checkpoint folder; its calibration.json is used where it has one")
    calibration: str = _param("", "calibration file; empty: the one beside the policy, or none")
    tasks: str = _param("", "table of tasks, instead: thresholds and time-out of each")
    level: str = _param(
        "auto",
        "completion is judged by the reward's q10 or mean; auto: q10 where it has one",
        choices=("auto", "q10", "mean"),
    )
    threshold: float = same(
        Thresholds,
        "completion",
        doc="level that counts as complete, where not calibrated",
        low=0.01,
        high=0.999,
    )
    hysteresis: float = same(Thresholds, "hysteresis", low=0.0, high=1.0)
    filter_s: float = same(SignalSettings, "filter_s", low=0.001, high=10.0, above=None)
    dwell: int = same(
        SignalSettings, "dwell", doc="complete samples needed within the window", low=1, high=1000
    )
    window: int = same(
        SignalSettings, "window", doc="samples in the dwell window", low=1, high=1000
    )


_AlarmParams: Any = make_dataclass(
    "_AlarmParams", alarm_fields(), bases=(_CompletionParams,), frozen=True
)


@dataclass(frozen=True)
class SupervisorParams(_AlarmParams):
    """Node `supervisor`."""

    helps_per_signal: int = _param(
        3, "calls for help per episode and signal; the next aborts", low=0, high=1000
    )
    helps: int = _param(5, "calls for help per episode; the next aborts", low=0, high=1000)
    human_silence_s: float = _param(
        60.0, "a call for help that nobody answers for longer aborts", "s", 0.05, 86400.0
    )
    success_model_required: bool = _param(
        False, "completion needs the success classifier (rewact/success) too"
    )
    success_threshold: float = _param(0.5, "success probability that counts", low=0.001, high=1.0)
    success_hold: int = _param(5, "probabilities in a row that must count", low=1, high=1000)
    success_max_age_s: float = _param(0.5, "an older probability counts no more", "s", 0.05, 60.0)
    operator: str = _param("operator", "who judges by ~/success and ~/failure")
    state_dir: str = _param(
        "", "folder of the state that survives a restart; empty: rewact_ros in $XDG_STATE_HOME"
    )
    timeout_s: float = _param(20.0, "running time after which a task has failed", "s", 0.1, 86400.0)
    reset_motion: bool = _param(
        True, "move to the contract's reset pose, where it has one, before an episode"
    )
    reset_service: str = _param(
        "", "std_srvs/Trigger called after the reset motion; empty: none", topic=True
    )
    reset_timeout_s: float = _param(15.0, "longest reset", "s", 0.1, 3600.0)
    reset_tolerance: float = _param(
        0.1, "largest distance of a joint from the reset pose, in its unit", low=0.001, high=100.0
    )
    reset_reward_below: float = _param(
        0.0, "level that the reward must lie below after a reset; 0: not checked", low=0.0, high=1.0
    )
    on_withdrawal: str = _param(
        "keep",
        "once a calibrated bound is withdrawn: its thresholds stay, those of the parameters judge, "
        "or no episode begins",
        choices=tuple(mode.value for mode in OnWithdrawal),
    )
    hold_timeout_s: float = _param(
        5.0, "longest hold within an episode before it is given up", "s", 0.0, 3600.0
    )


@dataclass(frozen=True)
class SimParams:
    """Node `sim`, the simulated robot."""

    contract: str = _param("", "contract file of the robot")
    seed: int = _param(300000, "seed of the first scene; every reset takes the next", low=0)
    real_time_factor: float = _param(1.0, "simulated seconds per second", low=0.05, high=20.0)
    stamp_sim_time: bool = _param(False, "stamp messages with simulated instead of system time")
    render: bool = _param(True, "publish the cameras")
    task: str = _param(DEFAULT_TASK, "simulated task")


@dataclass(frozen=True)
class LerobotRobotParams:
    """Node `lerobot_robot`: a robot plug-in of LeRobot behind the contract's topics."""

    contract: str = _param("", "contract file of the robot")
    robot_type: str = _param("", "its type in LeRobot; empty: that of robot_config")
    robot_config: str = _param(
        "", "YAML file of its fields in LeRobot, such as port and cameras; empty: none"
    )
    read_hz: float = _param(
        0.0, "rate of reads; 0: that of commands, as a multiple of rate_hz", "Hz", 0.0, 1000.0
    )
    most_failures: int = _param(
        20, "failed reads, or commands, in a row after which the node ends", low=1, high=100000
    )


@dataclass(frozen=True)
class LerobotTeleopParams:
    """Node `lerobot_teleop`: a teleoperator plug-in of LeRobot as a source of the contract."""

    contract: str = _param("", "contract file of the robot")
    source: str = _param("leader", "teleop source of the contract")
    teleop_type: str = _param("", "its type in LeRobot; empty: that of teleop_config")
    teleop_config: str = _param("", "YAML file of its fields in LeRobot, such as port; empty: none")
    rate_hz: float = _param(50.0, "rate of targets", "Hz", 20.0, 200.0)
    most_failures: int = same(LerobotRobotParams, "most_failures")


@dataclass(frozen=True)
class TeleopParams:
    """Node `teleop`: a gamepad's sticks become position targets."""

    contract: str = _param("", "contract file of the robot")
    source: str = _param("gamepad", "teleop source of the contract, with a 'jog'")
    rate_hz: float = _param(50.0, "rate of targets", "Hz", 20.0, 200.0)
    task: str = _param(DEFAULT_TASK, "simulated task whose robot a tool without a model is of")


@dataclass(frozen=True)
class ScriptedHumanParams:
    """Node `scripted_human`: the simulation's expert helps as a person would."""

    contract: str = _param("", "contract file of the simulated arm")
    source: str = _param("scripted_human", "teleop source of the contract")
    reaction_s: float = _param(
        0.5, "median delay from the call for help to the deadman", "s", 0.0, 60.0
    )
    noise_rad: float = _param(
        0.01, "standard deviation of the hand's unsteadiness", "rad", 0.0, 0.1
    )
    attempts: int = _param(3, "tries before it gives up", low=1, high=20)
    answers_help: bool = _param(True, "help when an episode asks, not only when called")
    judges: bool = _param(False, "call supervisor/success after finishing a task")
    seed: int = _param(0, "seed of delays and noise", low=0)
    task: str = _param(DEFAULT_TASK, "simulated task that it helps with")


@dataclass(frozen=True)
class RewardModelParams:
    """Node `reward_model`, the success classifier."""

    contract: str = _param("", "contract file of the robot")
    model: str = _param("", "checkpoint folder of the classifier")
    device: str = _param("auto", "where the classifier runs", choices=("auto", "cpu", "cuda"))
    threads: int = _param(1, "CPU threads of the classifier", low=1, high=64)
    arch: str = _param("", "architecture that the checkpoint must have; empty: any")
    hidden_dim: int = _param(0, "hidden width that the checkpoint must have; 0: any", low=0)
    image_height: int = _param(0, "image height that the checkpoint must have; 0: any", "px", 0)
    image_width: int = _param(0, "image width that the checkpoint must have; 0: any", "px", 0)
    reward_threshold: float = _param(
        0.5, "probability that sorts a debug image into resnet_success", low=0.0, high=1.0
    )
    debug_save_dir: str = _param(
        "", "folder of judged images; empty: DEBUG_IMAGE_SAVE_DIR, or none"
    )
    debug_max_images: int = _param(
        500, "images kept in each of its two folders, the newest", low=1, high=1000000
    )


@dataclass(frozen=True)
class RecorderParams:
    """Node `recorder`: one recording per episode."""

    contract: str = _param("", "contract file of the robot; empty: only our own topics and topics")
    bags_dir: str = _param("bags", "folder of all recordings")
    topics: str = _param("", "regular expression of more topics, by full name, such as /tf|/imu/.*")
    exclude: str = _param("", "regular expression of topics to leave out; never rewact/*")
    task: str = _param("", "task of episodes that people start")
    operator: str = _param("", "who operates the robot and judges")
    calibration: str = _param("", "calibration file whose content goes into every recording")
    tasks: str = _param("", "table of tasks, instead: each one's calibration goes into its own")
    follow_supervisor: bool = _param(True, "record the supervisor's episodes")
    shadow: bool = _param(False, "a shadow policy predicts beside: tell when it is silent")
    preroll_s: float = _param(1.0, "time before the start that is recorded too", "s", 0.0, 60.0)
    postroll_s: float = _param(
        0.5, "time after the supervisor's verdict that is recorded too", "s", 0.0, 60.0
    )
    preroll_mb: int = _param(256, "most memory of the time before the start", "MB", 0, 100000)
    queue_mb: int = _param(
        512, "most memory of what waits for the disk; more is dropped", "MB", 1, 100000
    )
    max_bag_mb: int = _param(
        4000, "size at which an episode goes on in another file; 0: never", "MB", 0
    )
    compression: str = _param("none", "of the recordings' chunks", choices=("none", "zstd"))
    sync_s: float = _param(
        0.5, "period of writing to the disk itself, against power loss; 0: never", "s", 0.0, 60.0
    )
    min_free_gb: float = _param(
        2.0, "free room without which nothing is recorded; a tenth ends an episode", "GB", 0.0
    )
    joy_topic: str = _param("joy", "gamepad whose buttons act on the recorder", topic=True)
    joy_buttons: str = _param(
        "", "buttons, such as start=9, success=1, failure=2, rerecord=3; empty: none"
    )


@dataclass(frozen=True)
class ConsoleParams:
    """Node `console`: the operator's page in a browser."""

    contract: str = _param("", "contract file of the robot; empty: no cameras and no jog")
    host: str = _param(
        "127.0.0.1", "address that it listens on; 0.0.0.0: every one of this machine"
    )
    port: int = _param(8095, "port that it listens on; 0: any that is free", low=0, high=65535)
    names: str = _param("", "further names that browsers reach it by, such as robot1.local, comma")
    token_file: str = _param(
        "", "file whose only line is the token for control; empty: one is made and printed"
    )
    jog_source: str = _param(
        "keyboard", "teleop source of the contract that the page jogs as; empty: none"
    )
    bags_dir: str = _param("", "folder of recordings that the page reviews; empty: none")
    datasets: str = _param("", "folder of LeRobotDatasets that the page reviews; empty: none")
    policy_dir: str = _param("", "folder of checkpoints that the page offers; empty: none")
    run: str = _param("", "folder of a training or learning run that the page shows; empty: none")
    task: str = _param(DEFAULT_TASK, "simulated task whose robot a tool without a model is of")


@dataclass(frozen=True)
class LearnerParams:
    """Node `learner`: reinforcement learning from what the robot executed."""

    contract: str = _param("", "contract file of the robot")
    policy: str = _param("", "checkpoint folder of the base policy")
    out: str = _param("", "folder of the run; one that is there already goes on")
    settings: str = _param("", "JSON file of settings (docs/rl.md); empty: those of algorithm")
    algorithm: str = _param(
        "act_sac", "without a settings file", choices=("residual", "act_sac", "q_chunking")
    )
    demos: str = same(LearnOptions, "demos")
    demo_episodes: int = same(LearnOptions, "demo_episodes")
    completion: float = same(
        Thresholds,
        "completion",
        doc="level of progress at which a demonstration counts as done",
        low=0.01,
        high=None,
    )
    publish_every: int = _param(5, "episodes from one version to the next", low=1, high=1000000)
    video_every: int = same(LearnOptions, "video_every")
    target: float = same(LearnOptions, "target")
    device: str = _param("auto", "where it learns", choices=("auto", "cpu", "cuda"))
    nice: int = _param(10, "added to its niceness: the robot comes first", low=0, high=19)
    wandb: str = _param("", "Weights & Biases project to log to as well; empty: none")


@dataclass(frozen=True)
class TransitionsParams:
    """Node `transitions`: what the robot executed, for the learner."""

    contract: str = _param("", "contract file of the robot")
    journal: str = _param("", "folder of the journal; one that is there already goes on")


@dataclass(frozen=True)
class MetricsParams:
    """Node `metrics`: diagnostics and status for Prometheus (docs/views.md)."""

    host: str = _param("127.0.0.1", "address to listen at; 0.0.0.0: every network, unprotected")
    port: int = _param(9464, "port to listen at; 0: any that is free", low=0, high=65535)


NODE_PARAMS: dict[str, type] = {
    "policy": PolicyParams,
    "shadow_policy": ShadowPolicyParams,
    "judge": JudgeParams,
    "hil": HilParams,
    "supervisor": SupervisorParams,
    "recorder": RecorderParams,
    "console": ConsoleParams,
    "transitions": TransitionsParams,
    "learner": LearnerParams,
    "sim": SimParams,
    "teleop": TeleopParams,
    "lerobot_robot": LerobotRobotParams,
    "lerobot_teleop": LerobotTeleopParams,
    "scripted_human": ScriptedHumanParams,
    "reward_model": RewardModelParams,
    "metrics": MetricsParams,
}


def declare[T](node: "Node", params: type[T]) -> T:
    """Declare all parameters of a dataclass on a node and read them.

    Raises:
        ParameterError: a value has the wrong type or is out of bounds.
    """
    from rcl_interfaces.msg import ParameterDescriptor

    values = {}
    for f in fields(params):  # type: ignore[arg-type]
        # First in any type: rclpy would refuse 1 for 1.0, in words that name no node.
        anything = ParameterDescriptor(dynamic_typing=True)
        given = node.declare_parameter(f.name, f.default, anything).value
        values[f.name] = check_value(node.get_name(), f, given)
        node.undeclare_parameter(f.name)
        node.declare_parameter(f.name, values[f.name], describe(f), ignore_override=True)
    keep_the_clock(node)
    return params(**values)


def keep_the_clock(node: "Node") -> None:
    """Refuse another clock at run time: every stamp, age and lease would jump with it."""
    from rcl_interfaces.msg import SetParametersResult

    uses_sim_time = node.get_parameter("use_sim_time").value

    def judge(changes: "list[Parameter]") -> SetParametersResult:
        if any(p.name == "use_sim_time" and p.value != uses_sim_time for p in changes):
            reason = "use_sim_time: a running node keeps its clock; start it anew with the other"
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(judge)


def params_yaml() -> str:
    """Text of `config/params.yaml`: every parameter at its default, with its meaning."""
    lines = [
        "# Generated by `rewact params`; edit a copy and pass it as params_file.",
        "# What `rewact up` or the launch file sets by its own arguments goes before what is here.",
    ]
    for name, params in NODE_PARAMS.items():
        # ROS refuses a file with an empty section.
        mark = "" if any(f.default != "" for f in fields(params)) else "# "
        lines += ["", f"{mark}/**/{name}:", f"{mark}  ros__parameters:"]
        for f in fields(params):
            m = f.metadata
            bounds = f", {m['low']} to {m['high']}" if None not in (m["low"], m["high"]) else ""
            choices = f", one of {', '.join(m['choices'])}" if m["choices"] else ""
            unit = f" [{m['unit']}]" if m["unit"] else ""
            if f.default is MISSING or (isinstance(f.default, str) and not f.default):
                lines.append(f"    # {f.name}: {m['doc']}")
            else:
                lines.append(
                    f"    {f.name}: {_yaml(f.default)}  # {m['doc']}{unit}{bounds}{choices}"
                )
    return "\n".join(lines) + "\n"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
