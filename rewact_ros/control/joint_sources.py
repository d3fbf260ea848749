"""Who says where the joints are: publishers that disagree, and stamps that are not now."""

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Contract, StatePart
from rewact_ros.control.watch import Now
from rewact_ros.stamps import stamp_fault

FloatArray = NDArray[np.float64]
# Two publishers that lie further apart (rad, m or normalized) do not speak of one arm; a joint with
# a smaller `max_start_jump` has that instead. Less would blame the noise and lag of honest ones.
TOLERANCE = 0.05
# What is wrong with a topic is remembered so long, for its publishers may be slow.
MEMORY_S = 3.0
# A stall of ours makes a few stamps look old at once. So often within `MEMORY_S`, each time at
# least `APART_S` after the last, they are the publisher's fault: reason not to begin, and to end.
APART_S, REFUSED, FAULTY = 0.1, 2, 5
# More publishers than this at once are not told apart: each message is compared with every stream.
MOST_STREAMS = 4


@dataclass
class _Stream:
    """What one publisher said lately: (steady time of receipt, positions), oldest first."""

    sequence: int
    said: deque[tuple[float, FloatArray]] = field(default_factory=deque)

    @property
    def newest(self) -> FloatArray:
        return self.said[-1][1]

    @property
    def heard_s(self) -> float:
        return self.said[-1][0]

    def take(self, sequence: int, heard_s: float, positions: FloatArray, keep_s: float) -> None:
        self.sequence = sequence
        self.said.append((heard_s, positions))
        while len(self.said) > 2 and heard_s - self.said[1][0] > keep_s:
            self.said.popleft()


class JointSource:
    """One topic of joint states: whether all who publish on it can be believed.

    Publishers are told apart by the sequence numbers of their messages, each of which rises by
    itself: no ROS 2 API says in Jazzy from whom a message is. Without them (a middleware that gives
    none) two successive messages are compared while the graph shows more than one publisher.

    Attributes:
        publishers: names of the nodes that publish on the topic, where there are several.

    Args:
        part: of the contract's state.
        picked: (N,) indices of the commanded joints among the part's; only these are compared.
        tolerance: (N,) apart from each other that two publishers may be.
        speed: (N,) highest speed of these joints, unit/s.
    """

    def __init__(
        self, part: StatePart, picked: NDArray[np.intp], tolerance: FloatArray, speed: FloatArray
    ) -> None:
        self.part = part
        self.publishers: tuple[str, ...] = ()
        self._picked, self._tolerance, self._speed = picked, tolerance, speed
        self._streams: list[_Stream] = []
        self._apart, self._apart_s = "", -np.inf
        self._stamp = ""
        self._stamps_s: deque[float] = deque(maxlen=FAULTY)

    def take(self, values: FloatArray, stamp_ns: int, sequence: int | None, now: Now) -> str:
        """Take one complete message; why it must not be used, or an empty string.

        Args:
            values: (J,) of the part's joints.
            stamp_ns: of its header.
            sequence: of its publisher; None: the middleware does not say.
        """
        self._compare(values[self._picked], sequence, now.steady_s)
        limit_s = self.part.max_age_s
        fault = stamp_fault(stamp_ns, now.ros_ns, ahead_s=limit_s, late_s=limit_s)
        if not fault:
            return ""
        fault = f"{self.part.topic}: {fault}"
        # Before the first /clock nothing can be said about a stamp.
        if now.ros_ns > 0:
            if not self._stamps_s or now.steady_s - self._stamps_s[-1] > MEMORY_S:
                self._stamp = fault
            if not self._stamps_s or now.steady_s - self._stamps_s[-1] >= APART_S:
                self._stamps_s.append(now.steady_s)
        return fault

    def refusal(self, now: Now) -> str:
        """Why nothing may be begun on what this topic says, or an empty string."""
        fault = self._remembered(now, REFUSED)
        if fault:
            return fault
        live = [s for s in self._streams if now.steady_s - s.heard_s <= self.part.max_age_s]
        for one, other in pairwise(live):
            apart = np.abs(one.newest - other.newest) > self._tolerance
            if apart.any():
                return self._disagreement(self._pair(int(apart.argmax()), one.newest, other.newest))
        return ""

    def fault(self, now: Now) -> str:
        """Why what is under way must end, or an empty string."""
        return self._remembered(now, FAULTY)

    def _remembered(self, now: Now, stamps: int) -> str:
        since_s = now.steady_s - MEMORY_S
        if self._apart_s >= since_s:
            return self._disagreement(self._apart)
        if sum(heard_s >= since_s for heard_s in self._stamps_s) >= stamps:
            return self._with_publishers(self._stamp)
        return ""

    def _disagreement(self, pair: str) -> str:
        return self._with_publishers(f"{self.part.topic}: its publishers disagree, {pair}")

    def _with_publishers(self, text: str) -> str:
        return f"{text}; published by {', '.join(self.publishers)}" if self.publishers else text

    def _find(self, joint: int, one: FloatArray, other: FloatArray, now_s: float) -> None:
        """Take note of a disagreement; the words stay those of its beginning."""
        if now_s - self._apart_s > MEMORY_S:
            self._apart = self._pair(joint, one, other)
        self._apart_s = now_s

    def _pair(self, joint: int, one: FloatArray, other: FloatArray) -> str:
        name = self.part.joints[self._picked[joint]]
        return f"{name} is {one[joint]:.3f} and {other[joint]:.3f}"

    # Comparison -------------------------------------------------------------------------------

    def _compare(self, positions: FloatArray, sequence: int | None, now_s: float) -> None:
        limit_s = self.part.max_age_s
        self._streams = [s for s in self._streams if now_s - s.heard_s <= MEMORY_S]
        if sequence is None:
            self._compare_successive(positions, now_s)
            return
        stream = self._stream(positions, sequence)
        stream.take(sequence, now_s, positions, limit_s)
        for other in self._streams:
            if other is stream or now_s - other.heard_s > limit_s:
                continue
            if stream.said[0][0] > other.heard_s:
                continue  # it was not yet heard then; `other` compares when it speaks again
            said = np.stack([said for _, said in stream.said])
            below = said.min(axis=0) - self._tolerance
            above = said.max(axis=0) + self._tolerance
            apart = (other.newest < below) | (other.newest > above)
            if apart.any():
                self._find(int(apart.argmax()), positions, other.newest, now_s)

    def _stream(self, positions: FloatArray, sequence: int) -> _Stream:
        """The publisher that a number continues; where it continues two, the nearer in value."""
        following = [s for s in self._streams if s.sequence < sequence]
        if following:
            newest = max(s.sequence for s in following)
            following = [s for s in following if s.sequence == newest]
            return min(
                following, key=lambda s: float(np.abs(s.newest - positions).max(initial=0.0))
            )
        self._streams = [*self._streams[1 - MOST_STREAMS :], _Stream(sequence)]
        return self._streams[-1]

    def _compare_successive(self, positions: FloatArray, now_s: float) -> None:
        if not self._streams:
            self._streams = [_Stream(0)]
        stream = self._streams[0]
        if stream.said and len(self.publishers) > 1:
            reach = self._tolerance + self._speed * (now_s - stream.heard_s)
            apart = np.abs(positions - stream.newest) > reach
            if apart.any():
                self._find(int(apart.argmax()), positions, stream.newest, now_s)
        stream.take(0, now_s, positions, 0.0)


def joint_sources(contract: Contract) -> tuple[JointSource, ...]:
    """One for each state part of a contract, in order."""
    limits, actions = contract.limits, list(contract.action_names)
    sources = []
    for part in contract.state:
        picked = [i for i, joint in enumerate(part.joints) if joint in actions]
        if part.field != "position":
            picked = []
        at = [actions.index(part.joints[i]) for i in picked]
        sources.append(
            JointSource(
                part,
                np.array(picked, dtype=np.intp),
                np.minimum(TOLERANCE, limits.start_jump[at]),
                limits.velocity[at],
            )
        )
    return tuple(sources)
