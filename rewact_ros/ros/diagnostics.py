"""`/diagnostics` at 1 Hz from every node."""

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.door import Guarded, Refusals
from rewact_ros.ros.interfaces import DIAGNOSTICS, LATCHED
from rewact_ros.text import printable

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def publish_diagnostics(
    node: Node, read: Callable[[], tuple[bytes, str, dict[str, object]]]
) -> None:
    """Publish what `read` returns once a second: (level, one line, values).

    Of a `Guarded` node it also tells what was refused at its doors.
    """
    # Latched: whoever asks for that has the newest of each node at once; others read it as ever.
    publisher = node.create_publisher(DiagnosticArray, DIAGNOSTICS, LATCHED)

    def publish() -> None:
        level, message, values = read()
        if isinstance(node, Guarded):
            level, message = _with_refusals(node.refusals, level, message)
            values = values | _refusal_values(node.refusals)
        status = DiagnosticStatus(
            level=level,
            name=node.get_fully_qualified_name(),
            message=printable(message),
            hardware_id="rewact_ros",
            values=[KeyValue(key=k, value=printable(v)) for k, v in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(array)

    node.create_timer(1.0, publish, clock=steady_clock())


def _with_refusals(refusals: Refusals, level: bytes, message: str) -> tuple[bytes, str]:
    """A refusal is news where all is well otherwise; an error of our own is always."""
    newest = refusals.newest()
    if newest and refusals.is_fault:
        return ERROR, newest
    return (WARN, newest) if newest and level == OK else (level, message)


def _refusal_values(refusals: Refusals) -> dict[str, object]:
    values: dict[str, object] = {
        f"refused {what}": f"{n}, last: {refusals.reasons[what]}"
        for what, n in sorted(refusals.counts.items())
    }
    return {"internal_faults": refusals.faults, **values}
