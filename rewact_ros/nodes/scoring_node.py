"""What the nodes share that score observations and act on nothing: `judge` and `reward_model`."""

import threading
import time
from abc import abstractmethod
from typing import Any

from rclpy.node import Node

from rewact_ros.contract import load_contract
from rewact_ros.policy.preparation import MAX_TEXT
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.observations import Observation, Observations
from rewact_ros.ros.params import declare
from rewact_ros.ros.path_times import PathTimes
from rewact_ros.text import printable


class ScoringNode(Guarded, Node):
    """Scores the newest complete observation in a worker thread; what it misses, it skips.

    A subclass loads its model and then calls `begin`.

    Args:
        name: of the node.
        params: dataclass of its parameters, one of them `contract`.
        output: what it makes of an observation, such as `reward`.
    """

    def __init__(self, name: str, params: type, output: str, **node_arguments: Any) -> None:
        super().__init__(name, **node_arguments)
        self.params: Any = declare(self, params)
        self.contract = load_contract(self.params.contract, self.get_namespace())
        self.clock = NodeClock(self)
        self._fault = ""
        self._score: float | None = None
        self._times = PathTimes(output)

    def begin(self) -> None:
        """Listen and score from now on."""
        self._observations = Observations(self, self.contract, self.clock)
        publish_diagnostics(self, self._diagnose)
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """End the worker before the node goes."""
        self._observations.shut()
        self._worker.join(timeout=5.0)

    @property
    @abstractmethod
    def version(self) -> str:
        """Of the weights that score."""

    def idle(self) -> bool:
        """Whether nothing is to be scored now."""
        return False

    @abstractmethod
    def infer(self, seen: Observation) -> Any:
        """Look at an observation.

        Raises:
            ValueError, RuntimeError, FloatingPointError, KeyError: the model failed.
        """

    @abstractmethod
    def publish(self, seen: Observation, found: Any) -> float:
        """Publish what `infer` found, and return the score in [0, 1]."""

    def keep(self, seen: Observation, found: Any) -> None:
        """What is done with it besides, once it is out."""

    def _work(self) -> None:
        """Worker thread: the newest observation, one at a time."""
        while (seen := self._observations.newest()) is not None:
            if self.idle():
                continue
            started_s = time.monotonic()
            try:
                found = self.infer(seen)
            except (ValueError, RuntimeError, FloatingPointError, KeyError) as error:
                # Silence, not a made-up value: whoever listens sees the topic go stale.
                self._fault = printable(f"inference failed: {error}", MAX_TEXT)
                self.get_logger().error(self._fault, throttle_duration_sec=5.0)
                continue
            queue_s, elapsed_s = started_s - seen.complete_s, time.monotonic() - started_s
            self._fault, self._score = "", self.publish(seen, found)
            self._times.latency(seen.frame.stamp_ns, self.clock.now().ros_ns)
            self._times.add(queue_s, elapsed_s, time.monotonic() - seen.complete_s)
            self.keep(seen, found)

    def _reason(self) -> str:
        """Why nothing is scored, or an empty string."""
        if self._fault:
            return self._fault
        stream, reason = self._observations.fault()
        return f"{stream}: {reason}" if reason else ""

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        warning = self._reason() or self._times.odd_stamp
        level = ERROR if self._fault else WARN if warning else OK
        values: dict[str, object] = {
            "version": self.version,
            "score": "unknown" if self._score is None else f"{self._score:.4f}",
        }
        more = {**self._times.values(), **self._observations.values()}
        return level, warning or "judging", values | more
