"""One turn of our node, of the bare engine and of the peer on the same cameras; see `path`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from path_wire import Wire

from rewact_ros.stack.bringup import transport_environment
from rewact_ros.stack.rig_stack import Setup, robot

WARM_UP_S = 2.0


@dataclass(frozen=True)
class Case:
    """A robot to measure: files of its contract and policy."""

    name: str
    contract: str
    policy: str


@dataclass(frozen=True)
class Session:
    """What one turn of a runtime gave; times in ms.

    Attributes:
        stamp_to_chunk, stamp_to_command, intervals: of every chunk or command.
        node_p50: from a complete observation until its chunk was handed over.
        sent, lost: images of all cameras that were published, and that never arrived.
    """

    stamp_to_chunk: np.ndarray
    stamp_to_command: np.ndarray
    intervals: np.ndarray
    node_p50: float
    sent: int
    lost: int


def our_turn(case: Case, folder: Path, engine: str, seconds: float) -> Session:
    """Policy node and hil on the source's cameras; the rig plays joints and supervisor."""
    params = folder / "params.yaml"
    params.write_text(f"/**/policy:\n  ros__parameters:\n    engine: {engine}\n")
    setup = Setup(case.contract, str(params), case.policy)
    with robot(setup, ("joints", "supervisor"), ("hil", "policy")) as bot:
        wire = Wire(bot.contract).listen(bot.rig.node)
        with source(case.contract) as cameras:
            cameras.begin()
            bot.rig.wait_for_policy()
            bot.rig.run_policy(moving=False)
            bot.rig.pause(WARM_UP_S)
            since_ns = time.time_ns()
            bot.rig.pause(seconds)
            end_ns = time.time_ns()
            sent = cameras.end()
        heard = wire.diagnoses
        bot.rig.wait(lambda: wire.diagnoses > heard + 1, "policy's diagnostics", 10.0)
    wire.commands_ns = [ns for ns in wire.commands_ns if ns < end_ns]
    values = wire.diagnostics["/policy"]
    received = [int(values.get(f"received {c.key}", 0)) for c in bot.contract.cameras]
    return Session(
        wire.stamp_to_chunk_ms(since_ns),
        wire.stamp_to_command_ms(since_ns),
        wire.intervals_ms(since_ns),
        float(values["observation_to_chunk_p50_ms"]),
        sent * len(received),
        sum(sent - n for n in received),
    )


def peer_turn(case: Case, seconds: float) -> Session:
    """The peer on the source's cameras; the rig plays the joints."""
    with robot(Setup(case.contract), ("joints",), ()) as bot:
        wire = Wire(bot.contract).listen(bot.rig.node)
        with (
            source(case.contract) as cameras,
            child("path_peer.py", case.contract, case.policy) as p,
        ):
            read_until(p, "ready")
            cameras.begin()
            bot.rig.wait(lambda: len(wire.commands_ns) > 0, "commands of the peer", 60.0)
            bot.rig.pause(WARM_UP_S)
            since_ns = time.time_ns()
            bot.rig.pause(seconds)
            sent = cameras.end()
            end_ns = time.time_ns()
            bot.rig.pause(0.5)
            p.send_signal(signal.SIGINT)
            told = json.loads(p.stdout.read().splitlines()[-1])
    wire.commands_ns = [ns for ns in wire.commands_ns if ns < end_ns]
    pairs = [(stamp, ns) for stamp, ns in told["commands"] if since_ns < stamp and ns < end_ns]
    return Session(
        np.empty(0),
        np.array([ns - stamp for stamp, ns in pairs]) / 1e6,
        wire.intervals_ms(since_ns),
        float("nan"),
        sent * len(told["received"]),
        sum(sent - n for n in told["received"].values()),
    )


def bare_turn(case: Case, engine: str, seconds: float) -> np.ndarray:
    """Times of the engine's call alone, ms, beside hil and the source but without the node."""
    arguments = (case.contract, case.policy, engine, str(WARM_UP_S + seconds))
    with (
        robot(Setup(case.contract), ("joints", "supervisor"), ("hil",)) as bot,
        source(case.contract, listeners=0) as cameras,
        child("path_bare.py", *arguments) as process,
    ):
        cameras.begin()
        bot.rig.wait(lambda: process.poll() is not None, "the engine", 600.0)
        assert process.stdout is not None
        answer = process.stdout.read().splitlines()
        cameras.end()
    return np.array(json.loads(answer[-1]))


def read_until(process: subprocess.Popen, word: str) -> None:
    """Skip what a program prints before a line of one word."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise RuntimeError(f"{process.args}: ended before it said {word}")


class Cameras:
    """The source's process."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def begin(self) -> None:
        """Publish from now on, once somebody listens."""
        read_until(self._process, "ready")
        self._say("begin")

    def end(self) -> int:
        """Publish no more; returns how many images of each camera there were."""
        self._say("end")
        return int(self._process.stdout.readline())

    def _say(self, word: str) -> None:
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()


@contextlib.contextmanager
def source(contract: str, listeners: int = 1) -> Iterator[Cameras]:
    """The cameras of a contract, in a process."""
    with child("path_source.py", contract, str(listeners)) as process:
        yield Cameras(process)


@contextlib.contextmanager
def child(program: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """A program of this folder with the environment that bring-up gives to nodes."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / program), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **transport_environment()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as bring-up does: the system shares its time among sessions
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
