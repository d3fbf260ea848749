"""Jogging by the keys of a terminal, which tells presses but no releases."""

from enum import Enum

import numpy as np

from rewact_ros.contract.schema import Jog
from rewact_ros.control.jog import JogInput

# One press moves for this long; a held key repeats faster than that.
PRESS_S = 0.15
# After the last motion key the deadman counts as let go: sooner, it would let go between two
# presses; later, the arm would be led by a hand that has left the keys.
DEADMAN_S = 0.5

KEYS_HELP = (
    "left/right choose a direction, up/down move | i/k x  j/l y  u/m z  b/n yaw  o/c last joint | "
    "space stop  t take over  r release  p resume  a arm  d disarm  q quit"
)
_ESCAPES = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"}
_ESCAPES |= {code.replace("[", "O"): key for code, key in _ESCAPES.items()}
_DIRECT = {
    "i": ("x", 1.0),
    "k": ("x", -1.0),
    "j": ("y", 1.0),
    "l": ("y", -1.0),
    "u": ("z", 1.0),
    "m": ("z", -1.0),
    "b": ("yaw", 1.0),
    "n": ("yaw", -1.0),
}


class Call(Enum):
    """What a key asks of hil, or of the program."""

    TAKE_OVER = "take_over"
    RELEASE = "release"
    RESUME = "resume"
    ARM = "arm"
    DISARM = "disarm"
    STOP = "stop"
    QUIT = "quit"


_CALLS = {
    "t": Call.TAKE_OVER,
    "r": Call.RELEASE,
    "p": Call.RESUME,
    "a": Call.ARM,
    "d": Call.DISARM,
    " ": Call.STOP,
    "\x1b": Call.STOP,  # Esc
    "q": Call.QUIT,
    "\x03": Call.QUIT,  # Ctrl-C and Ctrl-D, which a raw terminal gives as characters
    "\x04": Call.QUIT,
}


def split_keys(text: str) -> list[str]:
    """Keys of what a terminal sent: single characters, and arrows by name."""
    keys = []
    while text:
        arrow = _ESCAPES.get(text[:3])
        keys.append(arrow or text[0])
        text = text[3 if arrow else 1 :]
    return keys


class KeyboardJog:
    """Turns key presses into deflections with a deadman that lets go by itself."""

    def __init__(self, jog: Jog) -> None:
        self._directions = jog.directions
        self._selected = 0
        self._moves: dict[str, tuple[float, float]] = {}  # direction: (sign, until)
        self._deadman_until_s = -np.inf

    @property
    def selected(self) -> str:
        """Direction that up and down move."""
        return self._directions[self._selected]

    def press(self, key: str, now_s: float) -> Call | None:
        """Take one key; returns what it asks for, or None where it only moves or chooses."""
        call = _CALLS.get(key)
        if call is not None:
            self.stop()
        elif key in ("left", "right"):
            turn = 1 if key == "right" else -1
            self._selected = (self._selected + turn) % len(self._directions)
        elif key in ("up", "down"):
            self._move(self.selected, 1.0 if key == "up" else -1.0, now_s)
        elif key in ("o", "c"):
            self._move(self._directions[-1], 1.0 if key == "o" else -1.0, now_s)
        elif key in _DIRECT:
            self._move(*_DIRECT[key], now_s)
        return call

    def stop(self) -> None:
        """Let go of everything."""
        self._moves.clear()
        self._deadman_until_s = -np.inf

    def given(self, now_s: float) -> JogInput:
        """Input of this moment."""
        rates = np.zeros(len(self._directions))
        for direction, (sign, until_s) in self._moves.items():
            if now_s < until_s:
                rates[self._directions.index(direction)] = sign
        return JogInput(now_s < self._deadman_until_s, rates, now_s)

    def _move(self, direction: str, sign: float, now_s: float) -> None:
        if direction in self._directions:
            self._moves[direction] = (sign, now_s + PRESS_S)
            self._deadman_until_s = now_s + DEADMAN_S
