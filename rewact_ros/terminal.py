"""A terminal whose keys steer a program: raw keys in, one status line out."""

import os
import select
import shutil
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rewact_ros.text import printable


class NoTerminalError(RuntimeError):
    """Standard input is not a terminal, so there are no keys to read."""


@contextmanager
def raw_keys(terminal: int) -> Iterator[None]:
    """Give keys one by one, unseen and without signals; the terminal is as before afterwards."""
    before = termios.tcgetattr(terminal)
    raw = termios.tcgetattr(terminal)
    raw[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, raw)
        yield
    finally:
        # NOW: a terminal that takes no more output must not keep us from giving it back.
        termios.tcsetattr(terminal, termios.TCSANOW, before)
        print(flush=True)


def typed(terminal: int) -> str | None:
    """What was typed since the last call, without waiting; None: the terminal is gone."""
    data = b""
    while select.select([terminal], [], [], 0)[0]:
        more = os.read(terminal, 64)
        if not more and not data:
            return None
        if not more:
            break
        data += more
    return data.decode(errors="ignore")


def show_status(text: str) -> None:
    """Write a line in place of the one before, as long as the terminal is wide."""
    width = shutil.get_terminal_size().columns - 1
    print(f"\r{printable(text, width)}\x1b[K", end="", flush=True)


class Panel:
    """Lines that stay below what is printed; several threads may print.

    Args:
        out: the terminal.
    """

    def __init__(self, out: TextIO) -> None:
        self._out, self._lock = out, threading.Lock()
        self._lines: list[str] = []

    def print(self, line: str) -> None:
        """Print a line above the panel."""
        with self._lock:
            self._out.write(f"{self._erased()}{line}\n{self._drawn()}")
            self._out.flush()

    def show(self, lines: Sequence[str]) -> None:
        """Put other lines in the place of those that are there; those that do not fit are cut."""
        columns, rows = shutil.get_terminal_size()
        with self._lock:
            erased = self._erased()
            self._lines = [printable(line, columns - 1) for line in lines[: max(rows - 2, 0)]]
            self._out.write(erased + self._drawn())
            self._out.flush()

    def _erased(self) -> str:
        """Up to the panel's first line, and nothing from there on."""
        return f"\x1b[{len(self._lines)}A\r\x1b[J" if self._lines else ""

    def _drawn(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)
