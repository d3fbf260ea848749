"""Bench topic `robots-doctor`: `rewact doctor` before healthy and faulty fake robots.

Each fault of `doctor_faults.py` is alone on a robot that runs. It is named rightly where the check
of that fault tells it in the words that belong to it; what else is told does not count. A healthy
stack is a shipped contract, its driver, and a checkpoint, and is examined by the user's own
command, whose wall time counts from start to exit. An error there is a false red.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import rclpy
from doctor_faults import FAULTS, Fault, Robot, checkpoint
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from robot_drivers import DRIVERS, FakeDriver

from rewact_ros.checks.finding import Result
from rewact_ros.cli.bench import Bench
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.stack.doctor import diagnose
from rewact_ros.stack.doctor_settings import DoctorSettings
from rewact_ros.stack.domain import kept_environment, own_domain

LONGEST_S = 180.0
QUICK = 8


def run(bench: Bench) -> None:
    """Measure faults and healthy stacks; with --quick a few of each."""
    faults = FAULTS[:: len(FAULTS) // QUICK] if bench.quick else FAULTS
    robots = [*sorted(DRIVERS), "g1"][:: 4 if bench.quick else 1]
    bench.settings.update(doctor_faults=len(faults), doctor_robots=", ".join(robots))
    named = 0
    for fault in faults:
        results, took_s = _faulty(fault)
        told = _told(results, fault)
        named += bool(told)
        said = [r["text"] for r in results if r["check"] == fault.check]
        mark = "ok   " if told else "WRONG"
        print(
            f"    {mark} {fault.name} ({took_s:.1f} s)" + ("" if told else f": {said}"), flush=True
        )
    low, high = wilson_interval(named, len(faults))
    share = named / len(faults)
    bench.add(
        "doctor faults named", share, "share", goal=">= 0.95", n=len(faults), low=low, high=high
    )
    reds, warnings, seconds = 0, 0, []
    for name in robots:
        results, took_s = _healthy(name)
        wrong = [r for r in results if r["state"] == "error"]
        doubtful = [r for r in results if r["state"] == "warn"]
        for each in wrong + doubtful:
            print(f"    {name}: {each['state']} {each['check']}: {each['text']}", flush=True)
        reds, warnings = reds + len(wrong), warnings + len(doubtful)
        seconds.append(took_s)
    bench.add("doctor false reds", reds, "checks", goal="<= 0", n=len(robots))
    bench.add("doctor warnings on healthy robots", warnings, "checks", n=len(robots))
    bench.add("doctor slowest", max(seconds), "s", goal="<= 15", n=len(robots))
    bench.add("doctor median", sorted(seconds)[len(seconds) // 2], "s", n=len(robots))


def _told(results: list[dict], fault: Fault) -> bool:
    findings = [f["text"] for r in results if r["check"] == fault.check for f in r["findings"]]
    return any(re.search(fault.words, text) for text in findings)


def _faulty(fault: Fault) -> tuple[list[dict], float]:
    with _domain(), tempfile.TemporaryDirectory() as folder:
        robot = Robot.of(fault.robot, Path(folder))
        fault.put(robot)
        with Running(robot):
            examine = _by_command if fault.command else _here
            return examine(robot)


def _healthy(name: str) -> tuple[list[dict], float]:
    with _domain(), tempfile.TemporaryDirectory() as folder:
        robot = Robot.of(name, Path(folder))
        checkpoint(robot)
        fake = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("robot_drivers.py")), name],
            stdout=subprocess.PIPE,
        )
        try:
            assert fake.stdout is not None and fake.stdout.readline() == b"ready\n"
            return _by_command(robot)
        finally:
            fake.terminate()
            fake.wait(10)


def _domain() -> ExitStack:
    """A domain of its own: nobody else's nodes are found in it."""
    stack = ExitStack()
    stack.enter_context(kept_environment("ROS_DOMAIN_ID"))
    os.environ.pop("ROS_DOMAIN_ID", None)
    stack.callback(own_domain().release)
    return stack


class Running:
    """Context manager: a robot's driver, and what runs beside it, in this process."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot

    def __enter__(self) -> "Running":
        robot, self._context = self._robot, rclpy.Context()
        rclpy.init(args=[], context=self._context)

        def change(topic: str, msg: object) -> object:
            for each in robot.changes:
                msg = None if msg is None else each(topic, msg)
            return msg

        self._driver = FakeDriver(
            robot.name, self._context, True, robot.about, robot.urdf, robot.pose, change
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._nodes = []
        for name, make in robot.others:
            node = Node(name, context=self._context, use_global_arguments=False)
            make(node)
            self._nodes.append(node)
            self._executor.add_node(node)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()
        return self

    @property
    def received(self) -> list[tuple[str, object]]:
        """Commands that the driver got."""
        return self._driver.received

    def _spin(self) -> None:
        while not self._over.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._executor.shutdown()
        self._driver.close()
        for node in self._nodes:
            node.destroy_node()
        rclpy.shutdown(context=self._context)


def _here(robot: Robot) -> tuple[list[dict], float]:
    """The doctor in this process: what it imports is there already."""
    with kept_environment(*robot.environment):
        os.environ.update(robot.environment)
        start_s = time.monotonic()
        results: list[Result] = diagnose(DoctorSettings(contract=robot.write(), **robot.asked))
        return [result.record() for result in results], time.monotonic() - start_s


def _by_command(robot: Robot) -> tuple[list[dict], float]:
    """The user's own command."""
    words = [sys.executable, "-m", "rewact_ros.cli", "doctor", "--json"]
    words += ["--contract", str(robot.write())]
    for option, value in robot.asked.items():
        words += [f"--{option}", str(value)]
    if robot.limits:
        words = ["bash", "-c", f'{robot.limits}; exec "$@"', "bash", *words]
    start_s = time.monotonic()
    done = subprocess.run(
        words,
        env={**os.environ, **robot.environment},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    took_s = time.monotonic() - start_s
    if done.returncode not in (0, 1):
        print(f"    exit code {done.returncode}: {done.stderr[-300:]}", flush=True)
        return [], took_s
    return json.loads(done.stdout), took_s
