"""How the process of a node ends: soon, whatever still runs in it, and silently before it began."""

import os
import signal
import subprocess
import sys

import pytest

NODE = """
import sys, threading, time
from rclpy.node import Node
from rewact_ros.ros.process import run_node

class Busy(Node):
    def __init__(self):
        super().__init__("busy")
        threading.Thread(target=time.sleep, args=(3600.0,)).start()  # an inference that hangs
        self.create_timer(0.01, lambda: print("runs", flush=True))

    def close(self):
        print("closed", flush=True)

def loads():
    print("loads", flush=True)
    time.sleep(3600.0)

run_node(Busy if sys.argv[1] == "busy" else loads)
"""


@pytest.fixture
def start():
    started = []

    def start(what, word):
        process = subprocess.Popen(
            [sys.executable, "-c", NODE, what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ROS_DOMAIN_ID": "177"},
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
    out, err = process.communicate(timeout=30.0)
    assert process.returncode == 0 and out.endswith("closed\n") and "Traceback" not in err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_still_loads_ends_at_once_without_a_traceback(start, signum):
    process = start("loading", "loads")
    process.send_signal(signum)
    _, err = process.communicate(timeout=30.0)
    assert process.returncode == -signum and not err
