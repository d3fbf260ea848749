"""Starts, watches, restarts and stops a list of processes; nothing outlives it."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from rewact_ros.priority import give_way
from rewact_ros.restarts import RESPAWN_DELAY_S, Restarts, describe
from rewact_ros.stack.bringup import Process
from rewact_ros.stack.robot_lock import BringUpError

STOP_TIMEOUT_S = 5.0
PR_SET_PDEATHSIG = 1
# A log line of rcutils: [LEVEL] [1700000000.123456789] [node]: text
LOG_LINE = re.compile(r"^\[(\w+)\] \[[\d.]+\] \[([\w./]+)\]: (.*)$")


class Runner:
    """Context manager around running processes.

    Args:
        processes: what to run.
        write: receives readable log lines, `name | text`.
    """

    def __init__(self, processes: list[Process], write: Callable[[str], None]) -> None:
        self._specs = {p.name: p for p in processes}
        self._write = write
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._restarts = Restarts()
        self._last_error: dict[str, str] = {}
        self._due: dict[str, float] = {}

    def __enter__(self) -> "Runner":
        try:
            for name in self._specs:
                self._start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def pid(self, name: str) -> int:
        """Process id of a node."""
        return self._running[name].pid

    def poll(self) -> None:
        """Look after the processes: call it a few times a second.

        Raises:
            BringUpError: a node refused its configuration, or keeps dying.
        """
        now_s = time.monotonic()
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            if name not in self._due:
                self._plan_restart(name, code, now_s)
            elif now_s >= self._due[name]:
                del self._due[name]
                self._start(name)

    def _plan_restart(self, name: str, code: int, now_s: float) -> None:
        respawn, last = self._specs[name].respawn, self._last_error.get(name, "")
        end = self._restarts.end(name, code, now_s, respawn, last)
        if end and self._specs[name].essential:
            raise BringUpError(end)
        if end:
            del self._running[name]
            self._write(f"{name} | {end}; all else goes on without it")
            return
        self._due[name] = now_s + RESPAWN_DELAY_S
        self._write(f"{name} | ended ({describe(code)}); starting it again")

    def _start(self, name: str) -> None:
        spec = self._specs[name]
        parent = os.getpid()

        def die_with_parent() -> None:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            if spec.niceness:
                give_way(spec.niceness)

        process = subprocess.Popen(
            spec.command(),
            env={**os.environ, **spec.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches us alone; we stop the nodes in order
            preexec_fn=die_with_parent,
        )
        self._running[name] = process
        assert process.stdout is not None
        threading.Thread(target=self._pump, args=(name, process.stdout), daemon=True).start()

    def _pump(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            text = line.rstrip()
            if not text:
                continue
            match = LOG_LINE.match(text)
            if match:
                level, _, message = match.groups()
                text = message if level == "INFO" else f"{level.lower()}: {message}"
            if "rror" in text:
                self._last_error[name] = text.removeprefix("error: ")
            self._write(f"{name} | {text}")

    def stop(self) -> None:
        """End every process: SIGINT, then SIGTERM, then SIGKILL; the sender of commands last."""
        # hil brakes the arm while policy and supervisor go; stopping it first would cut that short.
        order = sorted(self._running, key=lambda name: name in ("hil", "sim"))
        for names in ([n for n in order if n not in ("hil", "sim")], order):
            for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                alive = [self._running[n] for n in names if self._running[n].poll() is None]
                if not alive:
                    break
                for process in alive:
                    process.send_signal(sig)
                deadline_s = time.monotonic() + STOP_TIMEOUT_S
                while time.monotonic() < deadline_s and any(p.poll() is None for p in alive):
                    time.sleep(0.02)


@contextlib.contextmanager
def node_log(folder: Path, verbose: bool) -> Iterator[Callable[[str], None]]:
    """Writer for `Runner` that keeps `nodes.log` in a folder and, if verbose, shows every line."""
    with (folder / "nodes.log").open("w") as file:

        def write(line: str) -> None:
            file.write(line + "\n")
            if verbose:
                print_line(line)

        yield write


def log_line(line: str) -> str:
    """A line with the time of day."""
    return f"{time.strftime('%H:%M:%S')} {line}"


def print_line(line: str) -> None:
    """Write one log line with the time of day."""
    sys.stdout.write(log_line(line) + "\n")
    sys.stdout.flush()
