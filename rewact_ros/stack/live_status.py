"""The robot's status while `rewact up` runs: a table on a terminal, else a line for each change."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TextIO

from rewact_ros.ros.streams import StreamState
from rewact_ros.stack.client import RobotClient
from rewact_ros.stack.robot_status import StatusListener, stream_changes
from rewact_ros.stack.runner import log_line
from rewact_ros.terminal import Panel

SHOW_S = 0.5
# A rate at its limit changes all the time, and that is no news.
LASTS_S = 2.0


class LiveStatus:
    """Context manager; call `listen` over and over, and `write` for each log line.

    Args:
        namespace: of the robot.
        out: standard output.
    """

    def __init__(self, namespace: str = "", out: TextIO = sys.stdout) -> None:
        self._client = RobotClient(namespace, name="rewact_up")
        self._out = out
        self._panel = Panel(out) if out.isatty() else None
        self._changes = StreamNews(lambda line: self.write(f"up   | stream {line}"))
        self._shown_s = 0.0

    def __enter__(self) -> "LiveStatus":
        self._client.__enter__()
        self._listener = StatusListener(self._client.node)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._panel:
            self._panel.show([])
        self._client.__exit__(kind, error, trace)

    def write(self, line: str) -> None:
        """Print a log line with the time of day, above the table."""
        if self._panel:
            self._panel.print(log_line(line))
        else:
            self._out.write(log_line(line) + "\n")
            self._out.flush()

    def listen(self, seconds: float) -> None:
        """Let so much time pass; show what the robot told, when that is due."""
        time.sleep(seconds)
        now_s = time.monotonic()
        if now_s - self._shown_s < SHOW_S:
            return
        self._client.drain(lambda: self._listener.taken)
        self._shown_s, status = now_s, self._listener.status()
        if self._panel:
            self._panel.show(["", *status.lines()])
        else:
            self._changes.take(status.streams, now_s)


class StreamNews:
    """Tells of each change of a stream's state once it has lasted.

    Args:
        tell: receives a line for each.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: dict[str, StreamState] = {}
        self._since: dict[str, tuple[str, float]] = {}  # state, and when it began

    def take(self, streams: Sequence[StreamState], now_s: float) -> None:
        """Take the newest states; a stream of which nobody tells any more changes nothing."""
        lasting = []
        for stream in streams:
            state, since_s = self._since.get(stream.topic, ("", now_s))
            if state != stream.state:
                since_s = now_s
                self._since[stream.topic] = (stream.state, now_s)
            if now_s - since_s >= LASTS_S:
                lasting.append(stream)
        for line in stream_changes(self._told.values(), lasting):
            self._tell(line)
        self._told |= {stream.topic: stream for stream in lasting}
