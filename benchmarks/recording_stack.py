"""A recorder and a source of messages as processes, in a ROS domain of their own."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import rclpy
from rclpy.node import Node
from std_srvs.srv import Trigger

from rewact_ros.data.bags.episode_file import EPISODE_FILE, read_episode
from rewact_ros.msg import RecorderStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.stack.bringup import transport_environment
from rewact_ros.stack.domain import own_domain

SOURCE = Path(__file__).with_name("recording_source.py")
TIMEOUT_S, ANSWER_S = 60.0, 5.0


class Remote(Node):
    """Calls a recorder and hears its status."""

    def __init__(self) -> None:
        super().__init__("bench_recording")
        self.status: RecorderStatus | None = None
        self.create_subscription(RecorderStatus, names.RECORDER_STATUS, self._keep, names.LATCHED)

    def _keep(self, msg: RecorderStatus) -> None:
        self.status = msg

    def until(self, condition: Callable[[], object]) -> None:
        end_s = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end_s:
                raise RuntimeError("bench recording: the recorder does not answer")
            rclpy.spin_once(self, timeout_sec=0.05)

    def text(self) -> str:
        self.status = None
        self.until(lambda: self.status)
        assert self.status is not None
        return self.status.text

    def call(self, action: str) -> None:
        """Start or stop; a request that discovery lost is sent again."""
        wanted = action == "start"
        if wanted:  # once it hears the source
            self.until(lambda: self.status and "/joint_states" in self.status.topics)
        client = self.create_client(Trigger, f"/recorder/{action}")
        self.until(client.service_is_ready)
        client.call_async(Trigger.Request())
        sent_s = time.monotonic()

        def done() -> bool:
            nonlocal sent_s
            if time.monotonic() - sent_s > ANSWER_S:
                sent_s = time.monotonic()
                client.call_async(Trigger.Request())
            return self.status is not None and self.status.recording == wanted

        self.until(done)
        self.destroy_client(client)


@contextmanager
def recorder(bags: Path, *extra: str, limit: int = 0) -> Iterator[tuple[int, Remote]]:
    command = [sys.executable, "-m", "rewact_ros.nodes.recorder", "--ros-args"]
    settings = (f"bags_dir:={bags}", "topics:=/camera_.*|/joint_states", "min_free_gb:=1.0")
    for setting in (*settings, *extra):
        command += ["-p", setting]

    def bind() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = subprocess.Popen(
        command, env={**os.environ, **transport_environment()}, preexec_fn=bind,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    remote = Remote()
    try:
        yield process.pid, remote
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(TIMEOUT_S)
        remote.destroy_node()


class Source:
    """A running source; its output is read as it comes."""

    def __init__(self, load: str, seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SOURCE), load, str(seconds)],
            env={**os.environ, **transport_environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == "listening":
                self._listening.set()
            else:
                self._lines.append(line)

    def begin(self) -> None:
        if not self._listening.wait(TIMEOUT_S):
            raise RuntimeError("bench recording: nothing listens to the source")
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def sent(self) -> dict[str, int]:
        return {topic: int(n) for topic, n in (line.split() for line in self._lines)}


@contextmanager
def source_of(load: str, seconds: float) -> Iterator[Source]:
    source = Source(load, seconds)
    try:
        yield source
    finally:
        source.process.terminate()
        try:
            source.process.wait(5.0)
        except subprocess.TimeoutExpired:
            source.process.kill()


@contextmanager
def domain() -> Iterator[None]:
    had = os.environ.pop("ROS_DOMAIN_ID", None)
    lock = own_domain()
    rclpy.init()
    try:
        yield
    finally:
        rclpy.shutdown()
        lock.release()
        os.environ.pop("ROS_DOMAIN_ID", None)
        if had is not None:
            os.environ["ROS_DOMAIN_ID"] = had


def finished_recording(bags: Path) -> Path:
    """Folder of the only episode, once it is closed."""
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        for path in bags.glob(f"*/{EPISODE_FILE}"):
            if read_episode(path.parent).ended_ns is not None:
                return path.parent
        time.sleep(0.1)
    raise RuntimeError(f"bench recording: no episode was finished in {bags}")
