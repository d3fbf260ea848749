"""Where a person stands during a comparison on the robot: sets scenes, judges, pauses."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rewact_ros.terminal import NoTerminalError, raw_keys, typed

KEYS = {"s": "start", "y": "success", "n": "failure", "r": "repeat"}
KEYS_HELP = "s start  y success  n failure  r this trial again  q pause the study"
QUIT = ("q", "\x03", "\x04")  # Ctrl-C and Ctrl-D, which a raw terminal gives as characters


class Desk(Protocol):
    """Says what is asked for, and what was pressed."""

    def say(self, line: str) -> None:
        """Show a line."""

    def pressed(self) -> str:
        """One of the words of `KEYS`, oldest first; "": nothing.

        Raises:
            KeyboardInterrupt: pause the study.
        """


class KeyDesk:
    """A person at the terminal, whose keys come one by one.

    Args:
        write: shows a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._waiting = write, ""

    def say(self, line: str) -> None:
        """Show a line."""
        self._write(line)

    def pressed(self) -> str:
        """As `Desk.pressed`; keys of no meaning are passed over."""
        more = typed(sys.stdin.fileno())
        if more is None:  # the terminal is gone, and the operator with it
            raise KeyboardInterrupt
        self._waiting += more
        while self._waiting:
            key, self._waiting = self._waiting[0], self._waiting[1:]
            if key in QUIT:
                raise KeyboardInterrupt
            if key in KEYS:
                return KEYS[key]
        return ""


@contextmanager
def at_desk(write: Callable[[str], None]) -> Iterator[KeyDesk]:
    """Give the desk at this terminal, whose keys are read raw meanwhile.

    Raises:
        NoTerminalError: there is no terminal.
    """
    if not sys.stdin.isatty():
        raise NoTerminalError(
            "compare: expected a terminal for the operator's keys, got none; run it in one, or "
            "give --unattended --judge supervisor where the robot resets its scene by itself"
        )
    with raw_keys(sys.stdin.fileno()):
        yield KeyDesk(write)
