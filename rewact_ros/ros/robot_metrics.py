"""What a robot says of itself, as samples for Prometheus (docs/views.md has the list).

It hears `/diagnostics` and the nodes' status topics, all of 10 Hz or less: nothing that moves the
robot passes through here. What nobody tells any more is absent, and so is what is unknown.
"""

import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from rewact_ros.control.modes import Mode
from rewact_ros.exposition import Exposition, Family
from rewact_ros.msg import ControlStatus, LearnerStatus, RecorderStatus, SupervisorStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.params import NODE_PARAMS
from rewact_ros.ros.streams import KEY as STREAM_KEY
from rewact_ros.ros.streams import read_streams

# Older than this, what a node said counts as silence; the slowest of them speaks at 1 Hz.
SILENT_S = 5.0
# Of a node that is silent its age is told for so long.
REMEMBERED_S = 60.0
# Drivers and strangers that tell of themselves on /diagnostics; our own nodes always have room.
MOST_OTHERS = 64
# Of one node's diagnostics, or of one list in a message.
MOST_VALUES = 100
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return Family(f"rewact_{name}", "gauge", meaning, labels)


def _counter(name: str, meaning: str) -> Family:
    return Family(f"rewact_{name}_total", "counter", meaning)


LEVEL = _gauge("diagnostic_level", "of a node: 0 well, 1 warning, 2 error, 3 stale", "node")
TOLD_AGE = _gauge("diagnostic_age_seconds", "since a node's last diagnostics", "node")
VALUE = _gauge("diagnostic_value", "a number in a node's diagnostics", "node", "key")
STREAM_OK = _gauge("stream_ok", "1: a stream of the contract is well", "node", "topic")
STREAM_RATE = _gauge("stream_rate_hertz", "at which a stream arrives", "node", "topic")
STREAM_AGE = _gauge("stream_age_seconds", "since the last message of a stream", "node", "topic")
STATUS_AGE = _gauge("status_age_seconds", "since the last message of a status topic", "topic")
MODE = _gauge("mode", "1: hil is in this mode", "mode")
RESUME = _gauge("resume_required", "1: a watchdog stopped the motion; rewact resume ends that")
COMMANDS = _counter("commands", "commands sent since hil's start")
CLIPPED = _counter("clipped_commands", "commands that the gate changed since hil's start")
REJECTED = _counter("rejected_commands", "commands and chunks refused since hil's start")
LATE = _counter("late_ticks", "control ticks that came late, or never, since hil's start")
TIMING = _gauge("timing_seconds", "of hil, since it was armed", "timing", "percentile")
PROGRESS = _gauge("progress", "filtered mean of the predicted progress, 0 to 1")
JUDGED = _gauge("level", "what completion is judged by, 0 to 1")
DRAWDOWN = _gauge("drawdown", "of the progress below its maximum")
STALL = _gauge("stall_seconds", "since the last new maximum of the progress")
NOVELTY = _gauge("novelty", "distance of what is seen from the calibration")
REWARD_AGE = _gauge("reward_age_seconds", "since the last reward")
PHASE = _gauge("phase", "1: the supervisor is in this phase", "phase")
ALARM = _gauge("alarm", "1: this alarm stands", "alarm")
ALARMS = _gauge("alarms", "how many alarms stand")
EPISODE = _gauge("batch_episode", "number of the episode in its batch, from 1; 0: none runs")
EPISODES = _gauge("batch_episodes", "episodes in the batch")
RECORDING = _gauge("recording", "1: an episode is recorded")
BAG_BYTES = _gauge("bag_bytes", "written of the newest recording")
FREE_BYTES = _gauge("disk_free_bytes", "left where recordings go")
RECEIVED = _gauge("bag_messages", "messages for the newest recording", "topic")
DROPPED = _gauge("bag_dropped_messages", "messages that did not get into it", "topic")
LEARNING = _gauge("learning", "1: the learner learns")
FIGURE = _gauge("learner_figure", "newest figure of the learner", "name")
LEFT_OUT = _gauge("left_out", "samples and nodes that had no room in this text")


class RobotMetrics:
    """Keeps the newest of each message, and writes them as text when somebody asks.

    Callbacks of one thread store, another thread may read.

    Args:
        namespace: of the robot. `/diagnostics` is everybody's: what tells of nodes of other
            namespaces is left out; drivers' names without a slash are kept.
    """

    def __init__(self, namespace: str = "/") -> None:
        self._space = namespace.rstrip("/") + "/"
        self._newest: dict[type, tuple[float, Any]] = {}
        self._told: dict[str, tuple[float, DiagnosticStatus]] = {}
        self._lock = threading.Lock()
        self._no_room = 0

    @property
    def sources(self) -> int:
        """Nodes and status topics that were heard lately."""
        return len(self._told) + len(self._newest)

    def take(self, msg: Any, now_s: float) -> None:
        """Keep a status message of a type in `STATUSES`; `now_s` is of the steady clock."""
        with self._lock:
            self._newest[type(msg)] = (now_s, msg)

    def take_diagnostics(self, msg: DiagnosticArray, now_s: float) -> None:
        """Keep what nodes tell of themselves."""
        with self._lock:
            old = [n for n, (at_s, _) in self._told.items() if now_s - at_s > REMEMBERED_S]
            for name in old:
                del self._told[name]
            for status in msg.status[:MOST_OTHERS]:
                node = self._node(status.name)
                if not node:
                    continue
                if node in self._told or node in NODE_PARAMS or len(self._told) < MOST_OTHERS:
                    self._told[node] = (now_s, status)
                else:
                    self._no_room += 1

    def _node(self, name: str) -> str:
        """A node of this robot, by its own name, or a driver; empty: of another robot."""
        if not name.startswith("/"):
            return "" if name in NODE_PARAMS else name  # ours tell their full names
        node = name.removeprefix(self._space)
        return "" if "/" in node else node

    def text(self, now_s: float) -> str:
        """The samples of this moment in Prometheus's format."""
        with self._lock:
            newest, told, no_room = dict(self._newest), dict(self._told), self._no_room
            self._no_room = 0
        out = Exposition()
        for kind, (topic, write) in STATUSES.items():
            if kind not in newest:
                continue
            at_s, msg = newest[kind]
            out.add(STATUS_AGE, now_s - at_s, topic)
            if now_s - at_s <= SILENT_S:
                write(out, msg)
        # Our own nodes first: where room is short, strangers go without.
        for node in sorted(told, key=lambda node: (node not in NODE_PARAMS, node)):
            at_s, status = told[node]
            out.add(TOLD_AGE, now_s - at_s, node)
            if now_s - at_s <= SILENT_S:
                _write_diagnostics(out, node, status)
        own = Exposition()  # for which there is always room
        own.add(LEFT_OUT, no_room + out.left_out)
        return out.text() + own.text()


def _write_diagnostics(out: Exposition, node: str, status: DiagnosticStatus) -> None:
    out.add(LEVEL, status.level[0] if isinstance(status.level, bytes) else status.level, node)
    values = {value.key: value.value for value in status.values[:MOST_VALUES]}
    for stream in read_streams(values):
        out.add(STREAM_OK, stream.state == "ok", node, stream.topic)
        for family, value in ((STREAM_RATE, stream.hz), (STREAM_AGE, stream.age_s)):
            if value is not None:
                out.add(family, value, node, stream.topic)
    for key, text in values.items():
        if not key.startswith(STREAM_KEY) and _NUMBER.fullmatch(text):
            out.add(VALUE, float(text), node, key)


def _write_control(out: Exposition, msg: ControlStatus) -> None:
    for mode in Mode:
        out.add(MODE, mode == msg.mode, mode.name)
    out.add(RESUME, msg.resume_required)
    counts = (msg.commands, msg.clipped, msg.rejected, msg.late_ticks)
    for family, count in zip((COMMANDS, CLIPPED, REJECTED, LATE), counts, strict=True):
        out.add(family, count)
    for timing in msg.timings[:MOST_VALUES]:
        if timing.n:
            for percentile, ms in ((50, timing.p50_ms), (95, timing.p95_ms), (99, timing.p99_ms)):
                out.add(TIMING, ms / 1000.0, timing.name, percentile)


def _write_supervisor(out: Exposition, msg: SupervisorStatus) -> None:
    for family, value in (
        (PROGRESS, msg.progress),
        (JUDGED, msg.level),
        (DRAWDOWN, msg.drawdown),
        (STALL, msg.stall),
        (NOVELTY, msg.novelty),
        (REWARD_AGE, msg.staleness),
        (ALARMS, len(msg.alarms)),
        (EPISODE, msg.episode),
        (EPISODES, msg.episodes),
    ):
        out.add(family, value)
    out.add(PHASE, 1, msg.phase)
    for alarm in msg.alarms[:MOST_VALUES]:
        out.add(ALARM, 1, alarm)


def _write_recorder(out: Exposition, msg: RecorderStatus) -> None:
    out.add(RECORDING, msg.recording)
    out.add(BAG_BYTES, msg.bytes)
    out.add(FREE_BYTES, msg.free_bytes)
    for family, counts in ((RECEIVED, msg.received), (DROPPED, msg.dropped)):
        _write_list(out, family, msg.topics, counts)


def _write_learner(out: Exposition, msg: LearnerStatus) -> None:
    out.add(LEARNING, msg.learning)
    _write_list(out, FIGURE, msg.names, msg.values)


def _write_list(
    out: Exposition, family: Family, labels: Iterable[str], values: Iterable[float]
) -> None:
    """A list of names beside a list of values; a message may hold more of one than of the other."""
    for _, label, value in zip(range(MOST_VALUES), labels, values, strict=False):
        out.add(family, value, label)


# Which messages are heard, where, and what they become.
STATUSES: dict[type, tuple[str, Callable[[Exposition, Any], None]]] = {
    ControlStatus: (names.CONTROL_STATUS, _write_control),
    SupervisorStatus: (names.SUPERVISOR_STATUS, _write_supervisor),
    RecorderStatus: (names.RECORDER_STATUS, _write_recorder),
    LearnerStatus: (names.LEARNER_STATUS, _write_learner),
}
