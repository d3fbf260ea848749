"""What a robot does, in one table: for `rewact status`, and live below the log of `rewact up`."""

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from rewact_ros.control.modes import mode_name
from rewact_ros.msg import ControlStatus, PolicyStatus, RecorderStatus, Reward, SupervisorStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.absent import nobody
from rewact_ros.ros.streams import StreamState, merged, read_streams
from rewact_ros.stack.client import AbsentError, RobotClient

# Older than this, what a node says of itself counts as silence: diagnostics come at 1 Hz.
SILENT_S, DIAGNOSED_S, REWARD_S = 1.0, 3.0, 0.5
# A node that is there has been found, and heard, when nothing new came for so long.
SETTLE_S, SETTLED_BY_S = 0.2, 2.0
UNKNOWN = "-"
# All nodes tell on one topic, and a late joiner hears them at once: one message each must fit.
EVERY_NODE = QoSProfile(
    depth=50, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


@dataclass(frozen=True)
class PolicyState:
    """The policy's heartbeat."""

    ready: bool
    reason: str
    version: str


@dataclass(frozen=True)
class SupervisorState:
    """The supervisor's line, and what its thresholds promise."""

    phase: str
    text: str
    bound: str


@dataclass(frozen=True)
class NodeState:
    """A node's own `/diagnostics`.

    Attributes:
        level: 0 well, 1 a warning, 2 an error.
        message: one line.
        age_s: since it was heard.
        values: its figures, as texts.
    """

    name: str
    level: int
    message: str
    age_s: float
    values: dict[str, str]


@dataclass(frozen=True)
class RobotStatus:
    """One moment of a robot; what nobody told is None or empty.

    Attributes:
        mode: of hil, by name; empty: hil is silent.
        leads: who moves the arm: policy, reset, the name of a teleop source, or none.
        reward: newest progress in [0, 1].
        last_verdict: of the newest episode that was judged.
        task: that runs.
        last_task: of the newest episode.
        recorder: its line.
        recording: whether an episode is being recorded.
        bag: that is written, or was written last.
    """

    mode: str = ""
    reason: str = ""
    remedy: str = ""
    resume_required: bool = False
    leads: str = ""
    streams: list[StreamState] = field(default_factory=list)
    policy: PolicyState | None = None
    supervisor: SupervisorState | None = None
    reward: float | None = None
    last_verdict: str = ""
    task: str = ""
    last_task: str = ""
    recorder: str = ""
    recording: bool = False
    bag: str = ""

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The table."""
        mode = f"{self.mode}: {self.reason}" if self.mode else "hil is silent"
        rows = [("mode", f"{mode}; {self.remedy}" if self.remedy else mode)]
        rows.append(("leads", self.leads or UNKNOWN))
        rows.append(("policy", _policy_text(self.policy)))
        rows.append(("supervisor", self.supervisor.text if self.supervisor else "silent"))
        rows.append(("reward", UNKNOWN if self.reward is None else f"{self.reward:.2f}"))
        rows.append(("verdict", self.last_verdict or UNKNOWN))
        last = f"none runs; the last was: {self.last_task}" if self.last_task else UNKNOWN
        rows.append(("task", self.task or last))
        if self.recorder:
            rows.append(("recorder", self.recorder))
        return [*(f"{name:<11} {text}" for name, text in rows), *_stream_lines(self.streams)]


def _policy_text(policy: PolicyState | None) -> str:
    if policy is None:
        return "silent, or none is configured"
    ready = "ready" if policy.ready else "not ready"
    return ", ".join(filter(None, (ready, policy.version))) + (
        f": {policy.reason}" if policy.reason else ""
    )


def _stream_lines(streams: Iterable[StreamState]) -> list[str]:
    cells = [("stream", "Hz", "contract", "age s", "limit s", "state")]
    for s in streams:
        cells.append(
            (
                s.topic,
                UNKNOWN if s.hz is None else f"{s.hz:.1f}",
                f"{s.contract_hz:g}",
                UNKNOWN if s.age_s is None else f"{s.age_s:.2f}",
                f"{s.limit_s:g}",
                f"{s.state}: {s.detail}" if s.detail else s.state,
            )
        )
    if len(cells) == 1:
        return ["stream      nobody tells of one yet"]
    width = max(len(row[0]) for row in cells)
    return [f"{a:<{width}} {b:>6} {c:>8} {d:>6} {e:>7}  {f}" for a, b, c, d, e, f in cells]


def stream_changes(before: Iterable[StreamState], now: Iterable[StreamState]) -> list[str]:
    """A line for each stream whose state is another than before; a new one that is well is none."""
    known = {stream.topic: stream.state for stream in before}
    lines = []
    for stream in now:
        if stream.state != known.get(stream.topic, "ok"):
            lines.append(f"{stream.topic}: {stream.state}: {stream.detail}".removesuffix(": "))
    return lines


class StatusListener:
    """Hears what a robot tells of itself.

    Attributes:
        taken: messages so far.

    Args:
        node: in the robot's namespace; its messages must be taken by somebody.
    """

    def __init__(self, node: Node) -> None:
        self._node, self.taken = node, 0
        self._newest: dict[type, tuple[float, Any]] = {}
        self._values: dict[str, tuple[float, dict[str, str]]] = {}
        self._words: dict[str, tuple[int, str]] = {}
        for kind, topic, qos in (
            (ControlStatus, names.CONTROL_STATUS, names.LATCHED),
            (SupervisorStatus, names.SUPERVISOR_STATUS, names.LATCHED),
            (RecorderStatus, names.RECORDER_STATUS, names.LATCHED),
            (PolicyStatus, names.POLICY_STATUS, names.COMMAND),
            (Reward, names.REWARD, names.COMMAND),
        ):
            node.create_subscription(kind, topic, self._keep, qos)
        node.create_subscription(
            DiagnosticArray, names.DIAGNOSTICS, self._on_diagnostics, EVERY_NODE
        )

    def _keep(self, msg: Any) -> None:
        self.taken += 1
        self._newest[type(msg)] = (time.monotonic(), msg)

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        """Of the nodes of this robot: the topic is everybody's."""
        self.taken += 1
        space = self._node.get_namespace().rstrip("/") + "/"
        for status in msg.status:
            name = status.name.removeprefix(space)
            if status.name.startswith(space) and "/" not in name:
                values = {value.key: value.value for value in status.values}
                self._values[name] = (time.monotonic(), values)
                self._words[name] = (int.from_bytes(status.level), status.message)

    def newest(self, kind: type) -> tuple[Any, float] | None:
        """The newest message of a kind and when it came, on the steady clock; None: none did."""
        heard_s, msg = self._newest.get(kind, (-math.inf, None))
        return None if msg is None else (msg, heard_s)

    def _fresh(self, kind: type, max_age_s: float) -> Any:
        heard_s, msg = self._newest.get(kind, (-math.inf, None))
        return msg if time.monotonic() - heard_s <= max_age_s else None

    @property
    def heard(self) -> bool:
        """Whether hil has told of itself."""
        return ControlStatus in self._newest

    def missing(self) -> list[str]:
        """Nodes that the graph shows and that have not told of themselves yet."""
        infos = self._node.get_publishers_info_by_topic(names.DIAGNOSTICS)
        here = {i.node_name for i in infos if i.node_namespace == self._node.get_namespace()}
        silent = here - set(self._values)
        if "policy" in here and PolicyStatus not in self._newest:
            silent |= {"policy"} if self._node.count_publishers(names.POLICY_STATUS) else set()
        if "supervisor" in here and SupervisorStatus not in self._newest:
            silent.add("supervisor")
        return sorted(silent)

    def nodes(self) -> list[NodeState]:
        """What each node said of itself last, by name; the topic is in the hands of others too."""
        now_s = time.monotonic()
        return [
            NodeState(name, *self._words[name], round(now_s - at_s, 2), values)
            for name, (at_s, values) in sorted(self._values.items())
        ]

    def status(self) -> RobotStatus:
        """The robot now."""
        control: ControlStatus | None = self._fresh(ControlStatus, SILENT_S)
        policy: PolicyStatus | None = self._fresh(PolicyStatus, SILENT_S)
        supervisor: SupervisorStatus | None = self._fresh(SupervisorStatus, DIAGNOSED_S)
        recorder: RecorderStatus | None = self._fresh(RecorderStatus, DIAGNOSED_S)
        reward: Reward | None = self._fresh(Reward, REWARD_S)
        now_s = time.monotonic()
        told = {n: v for n, (at_s, v) in self._values.items() if now_s - at_s <= DIAGNOSED_S}
        judged = told.get("supervisor", {})
        streams = merged(s for values in told.values() for s in read_streams(values))
        return RobotStatus(
            mode=_mode(control),
            reason=control.reason if control else "",
            remedy=control.remedy if control else "",
            resume_required=bool(control and control.resume_required),
            leads=control.active_source if control else "",
            streams=[streams[topic] for topic in sorted(streams)],
            policy=policy and PolicyState(policy.ready, policy.reason, policy.policy_version),
            supervisor=supervisor
            and SupervisorState(supervisor.phase, supervisor.text, supervisor.bound),
            reward=None if reward is None or math.isnan(reward.value) else float(reward.value),
            last_verdict=judged.get("last_verdict", ""),
            task=judged.get("task", ""),
            last_task=judged.get("last_task", ""),
            recorder=recorder.text if recorder else "",
            recording=bool(recorder and recorder.recording),
            bag=recorder.bag if recorder else "",
        )


def _mode(control: ControlStatus | None) -> str:
    return "" if control is None else mode_name(control.mode)


def read_status(client: RobotClient, timeout_s: float) -> RobotStatus:
    """Listen until every node that is there has told of itself.

    Raises:
        AbsentError: no hil within `timeout_s`.
    """
    listener = StatusListener(client.node)
    if not client.spin(lambda: listener.heard, timeout_s):
        raise AbsentError(nobody(client.node, "topic", names.CONTROL_STATUS, timeout_s))
    settled_s = time.monotonic() + SETTLE_S

    def settled() -> bool:
        nonlocal settled_s
        if listener.missing():
            settled_s = time.monotonic() + SETTLE_S
        return time.monotonic() > settled_s

    client.spin(settled, SETTLED_BY_S)
    return listener.status()
