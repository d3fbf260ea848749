"""How the process of a node ends: soon, whatever still runs in it, and silently before it began."""

import os
import signal
import subprocess
import sys
import time

import pytest
import rclpy

NODE = """
import ctypes, sys, threading, time
from rclpy.node import Node
from rewact_ros.ros.process import run_node

class Busy(Node):
    def __init__(self):
        super().__init__("busy")
        threading.Thread(target=time.sleep, args=(3600.0,)).start()  # an inference that hangs
        self.create_timer(0.01, lambda: print("runs", flush=True))

    def close(self):
        print("closed", flush=True)

class Half(Node):
    def __init__(self):
        super().__init__("half")
        self.part = self.create_timer(1.0, self.get_name)
        try:
            print("loads", flush=True)
            time.sleep(3600.0)
        except Exception:
            pass

class Converts:
    @classmethod
    def from_param(cls, value):
        print("converts", flush=True)
        time.sleep(3600.0)

class Foreign(Node):
    def __init__(self):
        super().__init__("foreign")
        strlen = ctypes.CDLL(None).strlen
        strlen.argtypes = [Converts]
        try:
            strlen(b"")
        except Exception as error:
            if sys.argv[1] == "passes":
                raise
            if sys.argv[1] == "explains":
                raise ValueError("strlen: cannot be called") from error

run_node({"busy": Busy, "half": Half}.get(sys.argv[1], Foreign))
"""
DOMAIN = 177


@pytest.fixture
def start():
    started = []

    def start(what, word):
        process = subprocess.Popen(
            [sys.executable, "-c", NODE, what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
        )
        started.append(process)
        assert process.stdout.readline().strip() == word
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_thread_that_hangs_does_not_keep_a_stopped_node_alive(start, signum):
    process = start("busy", "runs")
    process.send_signal(signum)
    out, err = process.communicate(timeout=120.0)
    assert process.returncode == 0 and out.endswith("closed\n") and "Traceback" not in err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_still_loads_ends_at_once_without_a_traceback(start, signum):
    process = start("half", "loads")
    process.send_signal(signum)
    _, err = process.communicate(timeout=120.0)
    assert process.returncode == -signum and not err


@pytest.mark.parametrize("what", ["passes", "explains", "swallows"])
def test_a_stop_inside_a_call_of_ctypes_is_a_stop_too(start, what):
    """ctypes makes an ArgumentError, which any `except Exception` takes, of whatever is raised."""
    process = start(what, "converts")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120.0)
    assert process.returncode == -signal.SIGTERM and not err


@pytest.mark.parametrize(
    ("what", "name", "word"), [("busy", "busy", "runs"), ("half", "half", "loads")]
)
def test_others_see_a_stopped_node_go(start, what, name, word):
    """Without a farewell it stays in their graph for the 20 s of its lease.

    A farewell is one datagram, and a busy machine may lose it: of three, one arrives.
    """
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    observer = rclpy.create_node("observer", context=context)
    try:
        for _ in range(3):
            process = start(what, word)
            assert until(lambda: name in observer.get_node_names(), 20.0)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=120.0)
            if gone := until(lambda: name not in observer.get_node_names(), 10.0):
                break
            assert until(lambda: name not in observer.get_node_names(), 30.0)
        assert gone
    finally:
        observer.destroy_node()
        context.shutdown()


def until(condition, timeout_s):
    end_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.02)
    return condition()
