"""Start, spin and end of a node process, with configuration faults as one line and exit code 2."""

import os
import signal
import sys
import time
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from rewact_ros.ros.loop import ControlLoop

CONFIGURATION_FAULT = 2
# Longest time until a node notices that it should end.
WAKE_S = 0.2
FAREWELL_S = 0.2
# A thread that has something to do waits so long for the interpreter, not the usual 5 ms: the
# inference thread must not wait for a callback, nor a callback for it.
SWITCH_S = 0.0005


def run_node(make: Callable[[], Node], faults: tuple[type[Exception], ...] = (ValueError,)) -> None:
    """Run a node until SIGINT or SIGTERM, then destroy it.

    Args:
        make: builds the node; its `close()`, if it has one, is called before it is destroyed. A
            node with a `loop` (see `ControlLoop`) is run by that, every other by an executor.
        faults: exceptions of `make` that mean a wrong configuration: printed without a traceback,
            and the process exits with 2, so that bring-up does not start it again.
    """
    sys.setswitchinterval(SWITCH_S)
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True  # shutting the executor down in here would pull it from under its own spin

    # Until there is a node nothing is to be tidied up, and loading a model can take long.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    code = 0
    node: Node | None = None
    try:
        node = make()
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, stop)
        loop = getattr(node, "loop", None)
        if isinstance(loop, ControlLoop):
            loop.run(lambda: stopping)
        else:
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            while not stopping:
                executor.spin_once(timeout_sec=WAKE_S)
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
    _end(code)


def _end(code: int) -> None:
    """End soon, when all that must be closed is: tearing torch down takes seconds of a core.

    The middleware's farewell lies in memory that goes with this process: others must read it first,
    or they see the node for its lease of 20 s.
    """
    time.sleep(FAREWELL_S)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
