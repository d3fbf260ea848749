"""Start, spin and end of a node process, with configuration faults as one line and exit code 2."""

import signal
import sys
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

CONFIGURATION_FAULT = 2


def run_node(make: Callable[[], Node], faults: tuple[type[Exception], ...] = (ValueError,)) -> None:
    """Run a node until SIGINT or SIGTERM, then destroy it.

    Args:
        make: builds the node; its `close()`, if it has one, is called before it is destroyed.
        faults: exceptions of `make` that mean a wrong configuration: printed without a traceback,
            and the process exits with 2, so that bring-up does not start it again.
    """
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()

    def stop(signum: int, frame: object) -> None:
        executor.shutdown(timeout_sec=0)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    code = 0
    node: Node | None = None
    try:
        node = make()
        executor.add_node(node)
        executor.spin()
    except faults as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = CONFIGURATION_FAULT
    except (ExternalShutdownException, KeyboardInterrupt):
        pass
    finally:
        if node is not None:
            getattr(node, "close", lambda: None)()
            node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(code)
