"""Node `recorder`: one recording per episode, with every message of the chosen topics."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_srvs.srv import Trigger

from rewact_ros import strict_yaml
from rewact_ros.contract import load_contract
from rewact_ros.data.bags.lock import BagsLockedError
from rewact_ros.data.bags.recorder import BagRecorder, RecordingError
from rewact_ros.data.bags.recorder_session import RecordingSession, RefusedError, SessionSettings
from rewact_ros.data.bags.recorder_setup import (
    ACTIONS,
    calibrations,
    episode_template,
    parse_buttons,
    recording_settings,
    topic_filter,
)
from rewact_ros.data.bags.writer_thread import RawMessage
from rewact_ros.msg import EpisodeEvent, PolicyStatus, RecorderStatus
from rewact_ros.nodes.recorder_topics import RawTopics
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded, MalformedError, read_message
from rewact_ros.ros.params import RecorderParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.ros.shadow_watch import ShadowWatch

POLL_S, STATUS_S, DISCOVER_S = 0.02, 0.5, 0.5
# An older status of the policy says nothing about this episode.
POLICY_FRESH_S = 1.0


class RecorderNode(Guarded, Node):
    """Feeds `RecordingSession` with messages, services, buttons and events, and shows its state."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("recorder", **node_arguments)
        self.params = p = declare(self, RecorderParams)
        self.clock = NodeClock(self)
        contract = load_contract(p.contract, self.get_namespace()) if p.contract else None
        text = strict_yaml.read_text(p.contract) if p.contract else ""
        self._buttons = parse_buttons(p.joy_buttons)
        self._pressed: set[str] = set()
        self._policy: tuple[RawMessage, float] | None = None
        self._shown: object = None
        self._shadow = ShadowWatch()
        wanted = topic_filter(contract, p, self.get_namespace(), self.clock.uses_sim_time)
        self.topics = RawTopics(self, wanted, self.get_logger().error)
        template = episode_template(contract, text, self.get_namespace())
        thresholds = calibrations(p)
        self.recording = BagRecorder(recording_settings(p))  # last: it locks the folder
        self.session = RecordingSession(
            self.recording,
            template,
            thresholds,
            text,
            SessionSettings(p.operator, p.task, p.follow_supervisor, p.postroll_s),
            self._policy_version,
        )
        self._watched: dict[str, Callable[[RawMessage], None]] = {
            self.resolve_topic_name(name): act
            for name, act in (
                (names.EPISODE_EVENT, self._on_event),
                (names.POLICY_STATUS, self._on_policy),
                (names.SUPERVISOR_STATUS, self._on_supervisor),
                (names.SHADOW_STATUS, self._on_shadow),
            )
        }
        self._make_interfaces()

    def _make_interfaces(self) -> None:
        self._status = self.create_publisher(RecorderStatus, names.RECORDER_STATUS, names.LATCHED)
        for action in ACTIONS:
            self.create_service(Trigger, f"~/{action}", partial(self._on_call, action))
        if self._buttons:
            self.create_subscription(Joy, self.params.joy_topic, self._on_joy, names.SENSOR)
        for period_s, act in (
            (POLL_S, self._poll),
            (DISCOVER_S, self._discover),
            (STATUS_S, self._publish),
        ):
            self.create_timer(period_s, act, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    # Messages ----------------------------------------------------------------------------------

    def _discover(self) -> None:
        for topic, latched in self.topics.discover():
            self.recording.declare(topic, latched)

    def _poll(self) -> None:
        messages = self.topics.poll()
        now_ns = self._now_ns()
        if self.session.ran_back(now_ns):
            self._take([m for m in messages if m.log_ns > now_ns])
            messages = [m for m in messages if m.log_ns <= now_ns]
            self.session.begin_anew(now_ns)
        for topic, n in self.topics.lost.items():
            if n:
                self.recording.lost(topic, n)
        self.topics.lost.clear()
        self._take(messages)
        self.session.step(now_ns, time.monotonic())
        self._show_notes()
        state = (self.session.owner, self.session.record, self.session.trouble)
        if state != self._shown:
            self._shown = state
            self._publish()

    def _take(self, messages: list[RawMessage]) -> None:
        watched = [i for i, message in enumerate(messages) if message.topic in self._watched]
        done = 0
        for i in watched:  # what came before an event is recorded before it acts
            self.recording.take(messages[done : i + 1])
            try:
                self._watched[messages[i].topic](messages[i])
            except Exception as error:  # it is recorded as it came, and not acted on
                self.refuse(messages[i].topic, error)
            done = i + 1
        self.recording.take(messages[done:])

    def _on_event(self, message: RawMessage) -> None:
        self.session.on_event(read_message(message.data, EpisodeEvent), message.log_ns)

    def _on_policy(self, message: RawMessage) -> None:
        # Kept as it came: it is asked for once in an episode and comes 20 times a second.
        self._policy = (message, time.monotonic())

    def _on_supervisor(self, message: RawMessage) -> None:
        self.session.heard_supervisor(time.monotonic())

    def _on_shadow(self, message: RawMessage) -> None:
        self._shadow.heard(message.data, time.monotonic())

    def _policy_version(self) -> str:
        if self._policy is None or time.monotonic() - self._policy[1] > POLICY_FRESH_S:
            return ""
        try:
            return str(read_message(self._policy[0].data, PolicyStatus).policy_version)
        except MalformedError as error:
            self.refuse(self._policy[0].topic, error)
            return ""

    def _now_ns(self) -> int:
        return self.clock.now().ros_ns

    # People ------------------------------------------------------------------------------------

    def _act(self, action: str) -> str:
        now_ns = self._now_ns()
        if action in ("success", "failure"):
            return self.session.judge(action, now_ns)
        act: Callable[[int], str] = getattr(self.session, action)
        return act(now_ns)

    def _on_call(
        self, action: str, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._poll()  # what has come by now belongs to the state that is being changed
        try:
            response.message, response.success = self._act(action), True
        except (RefusedError, RecordingError) as error:
            response.message, response.success = str(error), False
        if response.success:  # rclpy wants one line of code per severity
            self.get_logger().info(f"{action}: {response.message}")
        else:
            self.get_logger().warning(f"{action}: {response.message}")
        self._publish()
        return response

    def _on_joy(self, msg: Joy) -> None:
        pressed = {
            action
            for action, button in self._buttons.items()
            if button < len(msg.buttons) and msg.buttons[button]
        }
        for action in pressed - self._pressed:
            self._on_call(action, Trigger.Request(), Trigger.Response())
        self._pressed = pressed

    # State -------------------------------------------------------------------------------------

    def _line(self) -> str:
        session, recording = self.session, self.recording
        dropped = recording.dropped.total()
        drops = f", {dropped} DROPPED ({', '.join(sorted(recording.dropped))})" if dropped else ""
        if session.owner and session.record is not None:
            seconds = (self._now_ns() - (session.record.started_ns or 0)) / 1e9
            megabytes = recording.bytes / 1e6
            name = session.record.episode_id
            return f"recording {name}: {seconds:.1f} s, {megabytes:.1f} MB{drops}"
        if session.trouble:
            return f"NOT recording: {session.trouble}"
        if session.record is None:
            return "ready"
        record = session.record
        mark = ", discarded" if record.discarded else ""
        return f"ready; {record.episode_id}: {record.outcome}{mark}{drops}"

    def _publish(self) -> None:
        recording, record = self.recording, self.session.record
        topics = sorted(recording.topics)
        msg = RecorderStatus(
            recording=bool(self.session.owner),
            episode_id=record.episode_id if record else "",
            bag=str(recording.folder.absolute()) if recording.folder else "",
            text=self._line(),
            topics=topics,
            received=[recording.received[topic] for topic in topics],
            dropped=[recording.dropped[topic] for topic in topics],
            bytes=recording.bytes,
            free_bytes=recording.free_bytes,
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(msg)

    def _show_notes(self) -> None:
        notes = self.recording.notes
        while notes:
            note = notes.popleft()
            if note.fault:
                self.get_logger().error(note.text)
            else:
                self.get_logger().info(note.text)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        recording = self.recording
        dropped = recording.dropped.total()
        shadow = self._shadow.trouble(time.monotonic()) if self.params.shadow else ""
        failed = self.session.trouble or recording.fault
        level = ERROR if failed else WARN if dropped or shadow else OK
        values: dict[str, object] = {
            "topics": len(recording.topics),
            "received": recording.received.total(),
            "dropped": dropped,
            "waiting_mb": round(recording.waiting_bytes / 1e6, 1),
            "free_gb": round(recording.free_bytes / 1e9, 2),
            **{f"dropped {topic}": n for topic, n in recording.dropped.items()},
        }
        return level, "; ".join(filter(None, (self._line(), shadow))), values

    def close(self) -> None:
        """End the episode and let the disk have everything."""
        self._poll()
        self.session.close(self._now_ns())
        self.recording.close()
        self._show_notes()


def main() -> None:
    """Entry point."""
    run_node(RecorderNode, (ValueError, BagsLockedError, OSError))


if __name__ == "__main__":
    main()
