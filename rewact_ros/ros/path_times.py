"""How long an observation takes through a node that judges it, for `/diagnostics`."""

import math
from collections import deque

from rewact_ros.control.timing import DurationHistogram
from rewact_ros.stamps import NANO

# An observation older than this was stamped by another clock.
OLDEST_S = 10.0
_RECENT = 10  # observations


class PathTimes:
    """Distributions since the node started.

    Attributes:
        odd_stamp: what is wrong with the clock of the newest observation's stamp; empty: nothing.

    Args:
        output: what the node makes of an observation, such as `chunk`.
    """

    def __init__(self, output: str) -> None:
        self.odd_stamp = ""
        self._odd_stamps = 0
        self._output = output
        self._queue, self._inference = DurationHistogram(), DurationHistogram()
        self._node, self._latency = DurationHistogram(), DurationHistogram()
        self._newest: deque[float] = deque(maxlen=_RECENT)

    def add(self, queue_s: float, inference_s: float, node_s: float) -> None:
        """Count one output.

        Args:
            queue_s: the complete observation waited and was decoded.
            inference_s: then the engine ran.
            node_s: all of it, from the complete observation until its output was handed over.
        """
        self._queue.add(queue_s)
        self._inference.add(inference_s)
        self._node.add(node_s)

    def latency(self, stamp_ns: int, now_ns: int) -> float:
        """Count and return the seconds since a stamp; NaN, and not counted, if it cannot be so."""
        seconds = (now_ns - stamp_ns) / NANO
        if 0.0 <= seconds <= OLDEST_S:
            self.odd_stamp = ""
            self._latency.add(seconds)
            self._newest.append(seconds)
            return seconds
        self._odd_stamps += 1
        self.odd_stamp = f"image stamps are {seconds:+.3f} s old by this node's clock"
        return math.nan

    @property
    def recent_latency_s(self) -> float:
        """The longest from a stamp to its output, of the newest few; 0 before the first."""
        return max(self._newest, default=0.0)

    def values(self) -> dict[str, object]:
        """Entries of `/diagnostics`."""
        values: dict[str, object] = {"inferences": self._inference.summary().n}
        for name, histogram in (
            ("inference", self._inference),
            ("queue", self._queue),
            (f"observation_to_{self._output}", self._node),
            (f"stamp_to_{self._output}", self._latency),
        ):
            summary = histogram.summary()
            values[f"{name}_p50_ms"] = f"{summary.p50_ms:.2f}"
            values[f"{name}_p95_ms"] = f"{summary.p95_ms:.2f}"
            values[f"{name}_p99_ms"] = f"{summary.p99_ms:.2f}"
        values["stamps_of_another_clock"] = self._odd_stamps
        return values
