"""Arguments of a bring-up: declared once, read from text by one parser for both front ends."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

from rewact_ros.contract.names import check_namespace
from rewact_ros.contract.schema import ContractError
from rewact_ros.policy.task_table import TaskTableError, table_of
from rewact_ros.ros.parameter_values import ParameterError
from rewact_ros.ros.params_file import check_params_file
from rewact_ros.runs import NEWEST, VERSIONS
from rewact_ros.settings import check, setting
from rewact_ros.sim.task import DEFAULT_TASK, TaskError, find_task

# ROS's spellings of a boolean, in any case.
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
# A ROS name with an optional node before it; names of ROS itself, such as __node, are not remapped.
_NAME = r"(?:~?/)?[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*"
_REMAP = re.compile(rf"((?:[A-Za-z]\w*:)?(?!__){_NAME}):=({_NAME})", re.ASCII)
SHADOW_TOPICS = re.compile(r"\brewact/shadow\b")
# What launch_ros keeps among the arguments.
_LAUNCH_ROS = ("ros_namespace", "ros_remaps")


class ArgumentError(ValueError):
    """An argument of a bring-up is wrong; the message names it, what was expected and what came."""


@dataclass(frozen=True)
class BringUp:
    """Arguments of a bring-up; `rewact up` and the launch file offer exactly these.

    Raises:
        ArgumentError: one is out of its range, names what is not there, or contradicts another.
    """

    contract: str = setting(
        "", "contract file of the robot; empty: the simulated one with its policy", path=True
    )
    policy: str = setting(
        "", "checkpoint folder; none (or empty with a contract): no policy", path=True
    )
    tasks: str = setting(
        "",
        "table of tasks, instead of policy, judge and calibration; empty: one policy for all",
        path=True,
    )
    params_file: str = setting(
        "", "ROS parameter file for all nodes, like config/params.yaml", path=True
    )
    namespace: str = setting("", "prefix of all topics, such as left: one robot each")
    use_sim_time: bool = setting(False, "follow /clock")
    device: str = setting("auto", "where the policy runs", choices=("auto", "cpu", "cuda"))
    dry_run: bool = setting(False, "compute commands, publish none")
    judge: str = setting(
        "",
        "checkpoint folder whose reward judges: of a policy, a classifier or a LeRobot reward "
        "model; empty: the policy's",
        path=True,
    )
    calibration: str = setting(
        "", "file of thresholds; empty: calibration.json of the judge or policy", path=True
    )
    shadow: str = setting(
        "",
        "checkpoint folder that predicts beside the policy, recorded and never acted on",
        path=True,
    )
    success_model: str = setting(
        "",
        "folder of a success classifier, which the supervisor then requires as well",
        path=True,
    )
    teleop: str = setting(
        "", "teleop source to start: a gamepad of the contract, or scripted_human"
    )
    bags_dir: str = setting(
        "", "folder of recordings, one per episode; empty: no recorder", path=True
    )
    metrics: bool = setting(
        False, "serve status and diagnostics to Prometheus; port 9464 of this machine alone"
    )
    learn: str = setting(
        "",
        "folder of a learning run, whose newest version runs and explores; empty: none",
        path=True,
    )
    lerobot_robot: str = setting(
        "",
        "file of the LeRobot plug-in that is the robot's driver; empty: another driver",
        path=True,
    )
    console: bool = setting(False, "serve the operator's page, on this machine (docs/console.md)")
    sim: bool = setting(False, "simulate the robot of the contract")
    task: str = setting(DEFAULT_TASK, "simulated task, which brings its robot and policy")
    ml_python: str = setting(
        "",
        "interpreter of what needs PyTorch or MuJoCo, e.g. of .venv beside a stock ROS",
        path=True,
    )
    seed: int = setting(300000, "first scene of the simulated robot", low=0, high=2**31)
    real_time_factor: float = setting(
        1.0,
        "speed of the simulated robot; other than 1 needs use_sim_time",
        low=0.05,
        high=20.0,
    )
    log_level: str = setting("info", "of all nodes", choices=LOG_LEVELS)
    remap: str = setting(
        "", "ROS remapping rules for all nodes, such as front/image_raw:=/camera/color/image_raw"
    )

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> "BringUp":
        """Read the arguments of a command line; those that are not there have their defaults."""
        known = {f.name: f for f in fields(cls)}
        return cls(**{name: _read(known[name], text) for name, text in texts.items()})

    def __post_init__(self) -> None:
        check(self, ArgumentError)
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, str) and not value.isprintable():
                raise ArgumentError(f"{f.name}: expected printable text, got {value!r}")
            if f.metadata["path"]:
                # A shell leaves the ~ of `name:=~/x` as it is.
                object.__setattr__(self, f.name, os.path.expanduser(value))
        if self.real_time_factor != 1.0 and not self.use_sim_time:
            raise ArgumentError(
                f"real_time_factor: {self.real_time_factor:g} needs use_sim_time, or ages and "
                "chunk times would run at another speed than the robot"
            )
        try:
            check_namespace("namespace", self.namespace)
        except ContractError as error:
            raise ArgumentError(str(error)) from None
        object.__setattr__(self, "namespace", self.namespace.rstrip("/"))
        _ = self.remappings  # refuses what it cannot read
        try:
            find_task(self.task)
        except TaskError as error:
            raise ArgumentError(str(error)) from None
        self._check_files()

    def _check_files(self) -> None:
        for name in ("contract", "params_file", "lerobot_robot", "calibration"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise ArgumentError(f"{name}: no such file: {path}")
        if self.params_file:
            try:
                check_params_file(self.params_file)
            except ParameterError as error:
                raise ArgumentError(str(error)) from None
        try:
            table_of(self, ("policy", "judge", "calibration", "learn"))
        except TaskTableError as error:
            raise ArgumentError(str(error)) from None
        for name in ("policy", "judge", "shadow", "success_model"):
            folder = getattr(self, name)
            if not folder or (name == "policy" and folder == "none"):
                continue
            if not Path(folder).is_dir():
                raise ArgumentError(f"{name}: no such checkpoint folder: {folder}")
            if not Path(folder, "model.safetensors").is_file():
                raise ArgumentError(
                    f"{name}: no model.safetensors in {folder}: give the checkpoint itself, such "
                    "as checkpoints/last/pretrained_model of a training run"
                )
        if self.lerobot_robot and self.simulated:
            raise ArgumentError(
                "lerobot_robot: expected the contract of the plug-in's robot and no sim: the "
                "simulated robot publishes the same topics"
            )
        if self.learn and self.policy:
            raise ArgumentError("learn: its versions run; leave policy out")
        if self.learn and not (Path(self.learn) / VERSIONS / NEWEST).is_dir():
            raise ArgumentError(
                f"learn: no version in {self.learn}: start `rewact learn` there first"
            )
        if self.teleop == "keyboard":
            raise ArgumentError(
                "teleop: keys need a terminal of their own: run `rewact teleop` there"
            )

    @property
    def simulated(self) -> bool:
        """Whether the robot is simulated; the one without a contract is."""
        return self.sim or not self.contract

    @property
    def remappings(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a name, with or without a node before it, and the name that it becomes."""
        rules = tuple(rule.strip() for rule in self.remap.split(",") if rule.strip())
        pairs = []
        for rule in rules:
            match = _REMAP.fullmatch(rule)
            if match is None:
                raise ArgumentError(
                    "remap: expected NAME:=NAME or node:NAME:=NAME with names of topics or "
                    f"services, several with commas between, got '{rule}'"
                )
            pairs.append((match[1], match[2]))
            if SHADOW_TOPICS.search(rule):
                raise ArgumentError(
                    f"remap: expected no topic of the shadow policy, got '{rule}': what it "
                    "predicts might move the robot"
                )
        if len({name for name, _ in pairs}) < len(pairs):
            raise ArgumentError(f"remap: expected one rule for each name, got '{self.remap}'")
        return tuple(pairs)


def check_names(given: Iterable[str]) -> None:
    """Refuse names that look like a misspelt argument; `ros2 launch` itself ignores them.

    Raises:
        ArgumentError: names it and what may have been meant.
    """
    plain = {_plain(f.name): f.name for f in fields(BringUp)}
    for name in given:
        near = difflib.get_close_matches(_plain(name), plain, 1, 0.85)
        if near and name != plain[near[0]] and name not in _LAUNCH_ROS:
            raise ArgumentError(f"{name}: no such argument; expected {plain[near[0]]}")


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _read(argument: "Field[Any]", text: str) -> Any:
    kind: type[Any] = type(argument.default)
    name = argument.name
    if kind is str:
        return text
    bare = text.strip()
    if kind is bool:
        if bare.lower() in TRUE or bare.lower() in FALSE:
            return bare.lower() in TRUE
        raise ArgumentError(f"{name}: expected one of {', '.join(TRUE + FALSE)}, got '{text[:60]}'")
    if kind is int:
        if re.fullmatch(r"[+-]?\d{1,30}", bare, re.ASCII):
            return int(bare)
        raise ArgumentError(f"{name}: expected an integer, got '{text[:60]}'")
    try:
        if "_" in bare:
            raise ValueError("Python's own spelling of numbers")
        return float(bare)
    except ValueError:
        raise ArgumentError(f"{name}: expected a number, got '{text[:60]}'") from None
