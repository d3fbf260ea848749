"""The one thread that talks to a device, so that its bus never hears two at once."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rewact_ros.text import printable

JOIN_S = 5.0


class DeviceLoop:
    """Reads at a rate, and writes what was offered last as soon as the device is free.

    One read or write that fails is counted. Too many of them in a row end the loop: then the node
    must end too, and a new process may find the device again.

    Attributes:
        broken: why the loop ended by itself; empty: it did not.
        done, failed: how often, by `read` and `write`.
        newest: the last failure, one line.

    Args:
        read: one read, with what comes of it.
        write: takes what was offered.
        disconnect: the device's own; called once, whatever happened before.
        period_s: of the reads.
        most_failures: in a row, of reads or of writes.
    """

    def __init__(
        self,
        read: Callable[[], None],
        write: Callable[[Any], None],
        disconnect: Callable[[], None],
        period_s: float,
        most_failures: int,
    ) -> None:
        self._acts: dict[str, Callable[..., None]] = {"read": read, "write": write}
        self._disconnect: Callable[[], None] | None = disconnect
        self._period_s, self._most = period_s, most_failures
        self._wake = threading.Condition()
        self._offered: Any = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._in_a_row: Counter[str] = Counter()
        self.broken = self.newest = ""
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def start(self, connect: Callable[[], None]) -> None:
        """Begin to read, once `connect` has connected the device; else leave it, and raise."""
        try:
            connect()
        except BaseException:
            self.close()  # may only say that it was not connected
            raise
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def offer(self, what: Any) -> None:
        """Let this be written next; what was offered before and still waits is dropped."""
        with self._wake:
            self._offered = what
            self._wake.notify()

    @property
    def failing(self) -> bool:
        """Whether the newest read or write failed."""
        return bool(sum(self._in_a_row.values()))

    def close(self) -> str:
        """End the thread and leave the device; returns what the device said against it."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        disconnect, self._disconnect = self._disconnect, None
        try:
            if disconnect is not None:
                disconnect()
        except Exception as error:
            return printable(f"{type(error).__name__}: {error}")
        return ""

    def _work(self) -> None:
        due_s = time.monotonic()
        while not self.broken:
            with self._wake:
                wait_s = max(0.0, due_s - time.monotonic())
                self._wake.wait_for(lambda: self._stopping or self._offered is not None, wait_s)
                if self._stopping:
                    return
                offered, self._offered = self._offered, None
            if offered is not None:
                self._try("write", offered)
            if time.monotonic() >= due_s:
                self._try("read")
                # What was missed is not made up for.
                due_s = max(due_s + self._period_s, time.monotonic())

    def _try(self, what: str, *given: Any) -> None:
        try:
            self._acts[what](*given)
        except Exception as error:
            self.newest = printable(f"{what} failed: {type(error).__name__}: {error}")
            self.failed[what] += 1
            self._in_a_row[what] += 1
            if self._in_a_row[what] >= self._most:
                self.broken = f"{self._in_a_row[what]} times in a row: {self.newest}"
        else:
            self.done[what] += 1
            self._in_a_row[what] = 0
