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

from rewact_ros.bringup import Process
from rewact_ros.files import FileLock, LockedError, runtime_folder
from rewact_ros.ros.process import CONFIGURATION_FAULT

STOP_TIMEOUT_S = 5.0
RESPAWN_DELAY_S = 0.5
# A node that dies this often in this time is broken, not unlucky.
MAX_RESTARTS, RESTART_WINDOW_S = 5, 60.0
PR_SET_PDEATHSIG = 1
# A log line of rcutils: [LEVEL] [1700000000.123456789] [node]: text
LOG_LINE = re.compile(r"^\[(\w+)\] \[[\d.]+\] \[([\w./]+)\]: (.*)$")


class BringUpError(RuntimeError):
    """A process cannot run; the message is its own last error line."""


class RobotLock:
    """One bring-up per ROS domain and namespace on this machine.

    Raises:
        BringUpError: another one is running.
    """

    def __init__(self, namespace: str) -> None:
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        space = namespace.strip("/")
        try:
            # No ROS name has a dot: another namespace is another file.
            place = runtime_folder() / f"{domain}-{space.replace('/', '.')}.lock"
            self._lock = FileLock(place)
        except LockedError as error:
            raise BringUpError(
                f"a robot is already running in ROS domain {domain}, namespace '/{space}' "
                f"({error.holder}): stop it, or choose another ROS_DOMAIN_ID or namespace"
            ) from None
        except OSError as error:
            raise BringUpError(f"{error.filename}: cannot be locked: {error.strerror}") from None

    def release(self) -> None:
        """Let another bring-up start."""
        self._lock.release()


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
        self._restarts: dict[str, list[float]] = {p.name: [] for p in processes}
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
        if code == CONFIGURATION_FAULT or not self._specs[name].respawn:
            raise BringUpError(f"{name}: {self._last_error.get(name, f'exit code {code}')}")
        recent = [t for t in self._restarts[name] if now_s - t < RESTART_WINDOW_S]
        if len(recent) >= MAX_RESTARTS:
            last = self._last_error.get(name, f"exit code {code}")
            raise BringUpError(f"{name} died {len(recent) + 1} times within a minute: {last}")
        self._restarts[name] = [*recent, now_s]
        self._due[name] = now_s + RESPAWN_DELAY_S
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._write(f"{name} | ended ({cause}); starting it again")

    def _start(self, name: str) -> None:
        spec = self._specs[name]
        parent = os.getpid()

        def die_with_parent() -> None:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

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


def print_line(line: str) -> None:
    """Write one log line with the time of day."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()
