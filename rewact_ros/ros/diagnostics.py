"""`/diagnostics` at 1 Hz from every node."""

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from rewact_ros.ros.clock import steady_clock

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def publish_diagnostics(
    node: Node, read: Callable[[], tuple[bytes, str, dict[str, object]]]
) -> None:
    """Publish what `read` returns once a second: (level, one line, values)."""
    publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish() -> None:
        level, message, values = read()
        status = DiagnosticStatus(
            level=level,
            name=node.get_fully_qualified_name(),
            message=message,
            hardware_id="rewact_ros",
            values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(array)

    node.create_timer(1.0, publish, clock=steady_clock())
