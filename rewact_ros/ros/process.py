"""Start, spin and end of a node process, with configuration faults as one line and exit code 2.

A configuration fault is one of making the node. What goes wrong later is a message's fault or our
own: the node's doors deal with that, and the process goes on (`ros/door.py`).
"""

import ctypes
import gc
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import try_shutdown

from rewact_ros.home import provide_home
from rewact_ros.restarts import CONFIGURATION_FAULT
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.loop import ControlLoop
from rewact_ros.ros.parameter_values import ParameterError
from rewact_ros.ros.params_file import check_params_file
from rewact_ros.text import printable_lines, reason

PR_SET_NAME, MAX_NAME_BYTES = 15, 15
# Longest time until a node notices that it should end.
WAKE_S = 0.2
# So many errors of the executor without anything between them: it works no more.
GIVE_UP_AFTER = 100
FAREWELL_S = 0.2
BROKEN = 1
# A thread that has something to do waits so long for the interpreter, not the usual 5 ms: the
# inference thread must not wait for a callback, nor a callback for it.
SWITCH_S = 0.0005


def run_node(make: Callable[[], Node], faults: tuple[type[Exception], ...] = (ValueError,)) -> None:
    """Run a node until SIGINT or SIGTERM, then destroy it.

    Args:
        make: builds the node; its `close()`, if it has one, is called before it is destroyed. A
            node with a `loop` (see `ControlLoop`) is run by that, every other by an executor. One
            with `broken` says there why it cannot go on: its process then ends with 1.
        faults: exceptions of `make` that mean a wrong configuration: printed without a traceback,
            and the process exits with 2, so that bring-up does not start it again.
    """
    provide_home()
    sys.setswitchinterval(SWITCH_S)
    _init()
    stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True  # shutting the executor down in here would pull it from under its own spin

    asked = 0  # the signal that came while the node was made

    def stop_making(signum: int, frame: object) -> None:
        nonlocal asked
        asked = signum
        signal.signal(signum, signal.SIG_DFL)  # a second one ends the process at once
        raise _StoppedError

    # Loading a model can take long; until there is a node, nothing but a farewell is owed.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop_making)
    code = 0
    configuration_faults: tuple[type[Exception], ...] = (
        *faults,
        ParameterException,
        NameValidationException,
    )
    node: Node | None = None
    try:
        try:
            node = make()
            _name_process(node.get_name())
        except configuration_faults as error:
            if not asked:
                print(f"error: {printable_lines(reason(error))}", file=sys.stderr, flush=True)
                code = CONFIGURATION_FAULT
        else:
            if not asked:  # else something on the way took the exception for its own
                for signum in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(signum, stop)
                _spin(node, lambda: stopping)
    except (ExternalShutdownException, KeyboardInterrupt):
        pass
    except _BrokenError as error:
        print(f"error: {printable_lines(str(error))}", file=sys.stderr, flush=True)
        code = BROKEN
    except BaseException:
        # Inside a call of ctypes the exception of a stop becomes an ArgumentError.
        if not asked:
            raise
    finally:
        if node is not None:
            getattr(node, "close", lambda: None)()
            node.destroy_node()
        else:
            gc.collect()  # what was half made goes with the last reference to it, with a farewell
        try_shutdown()
    _end(-asked or code)


class _StoppedError(BaseException):
    """A signal came while the node was made; no `except Exception` on the way should take it."""


class _BrokenError(Exception):
    """The node says that it cannot go on; a new process may."""


def _init() -> None:
    """Read ROS arguments and parameter files; what is wrong with them is a configuration fault."""
    try:
        for option, value in pairwise(sys.argv):
            if option == "--params-file":
                check_params_file(value)
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    except (ParameterError, RuntimeError) as error:  # RCLError: a remapping rule, a log level
        text = re.sub(r",? at /\S+?:\d+", "", str(error)).removeprefix("failed to initialize rcl: ")
        print(f"error: {printable_lines(' '.join(text.split()))}", file=sys.stderr, flush=True)
        sys.exit(CONFIGURATION_FAULT)


def _spin(node: Node, should_stop: Callable[[], bool]) -> None:
    loop = getattr(node, "loop", None)
    if isinstance(loop, ControlLoop):
        loop.run(should_stop)
        return
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    in_a_row = 0
    while not should_stop():
        if broken := getattr(node, "broken", ""):
            raise _BrokenError(broken)
        try:
            executor.spin_once(timeout_sec=WAKE_S)
            in_a_row = 0
        except ExternalShutdownException:
            raise
        except Exception as error:  # of a future's callback, an action's, or the middleware
            in_a_row += 1
            if in_a_row >= GIVE_UP_AFTER or not isinstance(node, Guarded):
                raise
            node.internal_fault("executor", error)


def _name_process(name: str) -> None:
    """Let `ps` and `top` show the node's name instead of `python`."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:MAX_NAME_BYTES], 0, 0, 0)


def _end(code: int) -> None:
    """End soon, when all that must be closed is: tearing torch down takes seconds of a core.

    Args:
        code: of exit; below 0 of the signal that ends it.

    The middleware's farewell lies in memory that goes with this process: others must read it first,
    or they see the node for its lease of 20 s.
    """
    time.sleep(FAREWELL_S)
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
