"""Node `metrics`: what the other nodes tell of themselves, for Prometheus to fetch over HTTP."""

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from rewact_ros.metrics_server import PATH, MetricsServer
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.diagnostics import OK, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.params import MetricsParams, declare
from rewact_ros.ros.polled import Polled, poll, subscribe_polled
from rewact_ros.ros.process import run_node
from rewact_ros.ros.robot_metrics import STATUSES, RobotMetrics
from rewact_ros.text import reason

POLL_S = 1.0  # an age may be younger than it is by so much


class MetricsNode(Guarded, Node):
    """Messages are stored as they are polled; whoever asks has the text made in another thread."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("metrics", **node_arguments)
        self.params = p = declare(self, MetricsParams)
        self.metrics = RobotMetrics(self.get_namespace())
        group = Polled()
        # Of a status the newest counts; all nodes and drivers share the topic of diagnostics.
        # Whoever offers more than what is asked, such as a latched message, is heard, too.
        self._polled = [
            subscribe_polled(self, kind, topic, self._on_status, names.COMMAND, group)
            for kind, (topic, _) in STATUSES.items()
        ]
        self._polled.append(
            subscribe_polled(
                self, DiagnosticArray, names.DIAGNOSTICS, self._on_diagnostics, names.EVENTS, group
            )
        )
        try:
            self.server = MetricsServer(p.host, p.port, self._text)
        except OSError as error:
            raise ValueError(
                f"metrics: {p.host}:{p.port}: {reason(error)}; give host and port another value"
            ) from error
        self.get_logger().info(f"serves http://{p.host}:{self.server.port}{PATH}")
        self.create_timer(POLL_S, self._poll, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    def _poll(self) -> None:
        for subscription in self._polled:
            poll(subscription)

    def _on_status(self, msg: Any) -> None:
        self.metrics.take(msg, time.monotonic())

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self.metrics.take_diagnostics(msg, time.monotonic())

    def _text(self) -> str:
        try:
            return self.metrics.text(time.monotonic())
        except Exception as error:
            self.internal_fault(PATH, error)
            raise  # no answer: whoever scrapes takes the robot for down, and somebody looks

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        values: dict[str, object] = {"port": self.server.port, "cut_off": self.server.cut_off}
        return OK, f"hears {self.metrics.sources} nodes and topics", values

    def close(self) -> None:
        """Listen no more."""
        self.server.close()


def main() -> None:
    """Entry point."""
    run_node(MetricsNode)


if __name__ == "__main__":
    main()
