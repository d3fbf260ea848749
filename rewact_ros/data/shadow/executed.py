"""What the robot was told in a recording, and whether a person told it."""

import bisect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract, SampleError
from rewact_ros.control.modes import Mode
from rewact_ros.data.bags.reader import Bag
from rewact_ros.ros.commands import command_decoder
from rewact_ros.stamps import NANO

FloatArray = NDArray[np.float64]
# As in an export: what was sent later than this after an observation is not what became of it.
MAX_STEPS = 1.75


class Executed:
    """The commands of an episode, and the spans in which a person led the robot.

    The command of an observation is the first that was sent at or after its stamp, as in a dataset.

    Args:
        bag: open recording.
        contract: of the robot.

    A dry run commands nothing: then nothing is known, and that is no fault.

    Raises:
        BagError: a command topic has another type than in the contract.
    """

    def __init__(self, bag: Bag, contract: Contract) -> None:
        self.refused = 0
        self._parts = []
        for part in contract.action:
            name = bag.resolve(part.topic)
            if bag.topics.get(name, part.type) != part.type:
                bag.require(part.topic, part.type)
            self._parts.append((name, command_decoder(part)))
        self._sent: list[tuple[list[int], list[FloatArray]]] = [([], []) for _ in self._parts]
        self._longest_ns = round(MAX_STEPS * contract.dt_s * NANO)
        # hil reports a mode right after the first command in it: that report counts for it.
        self._lag_ns = round(0.5 * NANO / contract.command_rate_hz)
        self._modes: tuple[list[int], list[int]] = ([], [])  # when, and the person's turn or 0
        self._turns = 0

    @property
    def topics(self) -> frozenset[str]:
        """Full names of the command topics."""
        return frozenset(name for name, _ in self._parts)

    def command(self, topic: str, logged_ns: int, body: Any) -> None:
        """Take a recorded command."""
        for (name, read), (times_ns, values) in zip(self._parts, self._sent, strict=True):
            if name != topic:
                continue
            try:
                values.append(read(body))
            except SampleError:
                self.refused += 1
            else:
                times_ns.append(logged_ns)

    def mode(self, logged_ns: int, mode: int) -> None:
        """Take a recorded control mode."""
        times_ns, turns = self._modes
        led = mode == Mode.HUMAN
        if led and not (turns and turns[-1]):
            self._turns += 1
        if not turns or bool(turns[-1]) != led:
            times_ns.append(logged_ns)
            turns.append(self._turns if led else 0)

    def at(self, due_ns: int) -> tuple[FloatArray | None, int]:
        """(A,) what was commanded for a time, None: nothing was; and whose turn it was.

        Turns of a person are counted from 1; 0: it was not a person's.
        """
        found, first_ns = [], []
        for times_ns, values in self._sent:
            i = bisect.bisect_left(times_ns, due_ns)
            if i == len(times_ns) or times_ns[i] - due_ns > self._longest_ns:
                return None, 0
            found.append(values[i])
            first_ns.append(times_ns[i])
        at_ns, turns = self._modes
        k = bisect.bisect_right(at_ns, min(first_ns) + self._lag_ns) - 1
        return np.concatenate(found), turns[k] if k >= 0 else 0
