"""A robot's camera and joint topics as complete observations, for the nodes that judge images."""

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from rclpy.node import Node

from rewact_ros.checks.graph import absence
from rewact_ros.contract import Contract, Frame, FrameAssembler, SampleError, Stale
from rewact_ros.contract.frames import DecodeError, Sample, Selection, state_stream
from rewact_ros.control.watch import Now
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.graph_look import look
from rewact_ros.ros.images import camera_interface, camera_sample, camera_type
from rewact_ros.ros.states import is_stamped, state_sample, state_type
from rewact_ros.ros.streams import Arrivals, StreamState, stream_state, stream_values
from rewact_ros.stamps import NANO
from rewact_ros.text import printable

ASK_S = 1.0


@dataclass(frozen=True)
class Observation:
    """One complete observation, and the moment at which its last message came.

    Attributes:
        frame: its values, decoded.
        epoch: control epoch of that moment.
        complete_s: that moment on the steady clock.
        missed: of the same epoch, oldest first, those since the last one that nobody had.
    """

    frame: Frame
    epoch: int
    complete_s: float
    missed: tuple[Frame, ...] = ()


class LooksBack(Protocol):
    """Who infers from past observations, too, such as an engine or a judge."""

    @property
    def memory(self) -> int:
        """So many observations before the newest are looked at."""
        ...

    def remember(self, observation: dict[str, Any], stamp_s: float) -> None:
        """Take one that nobody infers from."""
        ...


class Observations:
    """Subscribes to what a contract observes; `newest` waits for the newest complete observation.

    A callback stores a reference and looks whether the observation is complete, microseconds in
    all. Pictures are decoded by whoever calls `newest`, and only those that are used.

    Attributes:
        epoch: control epoch in force; observations carry it.
        frame_id: of the reference's newest message; empty: none came, or it has none.
        received: messages by stream.
        refused: messages that did not carry what the contract promises, of those looked at.
        skipped: observations that a newer one overtook before anybody asked.
        memory: so many of those go into `missed`, for whoever looks back: what it was too slow to
            judge is its past all the same.
    """

    def __init__(self, node: Node, contract: Contract, clock: NodeClock) -> None:
        self.epoch = self.refused = self.skipped = self.memory = 0
        self.frame_id = ""
        self.received: Counter[str] = Counter()
        self._arrivals: dict[str, Arrivals] = defaultdict(Arrivals)
        self._node, self._contract, self._clock = node, contract, clock
        self._assembler = FrameAssembler(contract)
        # A state part that is the reference comes more often than observations do.
        self._silence_s = contract.reference.max_age_s + (0 if contract.cameras else contract.dt_s)
        self._word = "image" if contract.cameras else "observation"
        # Guards all that follows: messages come in the executor's thread, `newest` has another.
        self._changed = threading.Condition()
        self._open = True
        self._waiting: tuple[Selection, int, float] | None = None
        self._missed: deque[tuple[Selection, int]] = deque()
        self._stale: Stale | None = None
        self._complete_s = -np.inf  # on the age clock
        self._asked: dict[str, tuple[float, str]] = {}
        self._topics = {camera.key: (camera.topic, camera.type) for camera in contract.cameras} | {
            state_stream(i): (part.topic, part.type) for i, part in enumerate(contract.state)
        }
        self._unusable: dict[str, str] = {}
        # Of what only the decoder can judge: when the newest picture known to be sound came.
        self._decoded_s = {
            camera.key: -np.inf
            for camera in contract.cameras
            if camera_interface(camera).needs_decoding
        }
        self._inputs = []
        for i, part in reversed(list(enumerate(contract.state))):

            def on_state(msg, part=part, i=i):  # type: ignore[no-untyped-def]
                if state_stream(i) == contract.reference_stream and is_stamped(part):
                    self.frame_id = msg.header.frame_id
                self._store(
                    state_stream(i), lambda now: state_sample(part, msg, now.age_s, now.ros_ns)
                )

            self._inputs.append(
                node.create_subscription(state_type(part), part.topic, on_state, names.SENSOR)
            )
        # The executor takes what is ready in this order: of pictures that come together, the
        # reference's is seen last and finds its companions.
        for camera in reversed(contract.cameras):

            def on_image(msg, camera=camera):  # type: ignore[no-untyped-def]
                if camera is contract.cameras[0]:
                    self.frame_id = msg.header.frame_id
                self._store(camera.key, lambda now: camera_sample(camera, msg, now.age_s))

            self._inputs.append(
                node.create_subscription(camera_type(camera), camera.topic, on_image, names.SENSOR)
            )

    def open(self) -> None:
        """Take messages from now on."""
        with self._changed:
            self._open = True

    def shut(self) -> None:
        """Look at no more messages; whoever waits in `newest` is let go."""
        with self._changed:
            self._open, self._waiting = False, None
            self._changed.notify_all()

    def close(self) -> None:
        """Shut, and end the subscriptions."""
        self.shut()
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)

    # Messages ---------------------------------------------------------------------------------

    def _store(self, stream: str, read: Callable[[Now], Sample]) -> None:
        with self._changed:
            if not self._open:
                return
            self.received[stream] += 1
            now = self._clock.now()
            self._arrivals[stream].add(now.age_s)
            try:
                self._assembler.put(stream, read(now), now.ros_ns)
            except SampleError as error:
                # The stream goes stale by its own age limit; the reason is kept for the status.
                self._refuse(stream, error)
                return
            if stream not in self._decoded_s:
                self._unusable.pop(stream, None)
            self._select()

    def _refuse(self, stream: str, error: SampleError) -> None:
        self.refused += 1
        self._unusable[stream] = str(error)

    def _select(self) -> None:
        """Hand on the observation of the newest reference image as soon as it is complete."""
        now = self._clock.now()
        selected = self._assembler.select(now.age_s, now.ros_ns)
        if isinstance(selected, Selection):
            self._stale, self._complete_s = None, now.age_s
            if self._waiting is not None:
                self.skipped += 1
                self._missed.append(self._waiting[:2])
                while len(self._missed) > self.memory:
                    self._missed.popleft()
            self._waiting = (selected, self.epoch, now.steady_s)
            self._changed.notify_all()
        elif isinstance(selected, Stale):
            self._stale = selected

    # Whoever judges ---------------------------------------------------------------------------

    def newest(self) -> Observation | None:
        """Wait for an observation that nobody has had and decode it; None once shut.

        For one thread, which is not the executor's.
        """
        missed: list[tuple[Selection, int]] = []
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or not self._open)
                if self._waiting is None:
                    return None
                (selected, epoch, complete_s), self._waiting = self._waiting, None
                missed += self._missed
                self._missed.clear()
            try:
                frame = self._assembler.read(selected)
            except DecodeError as error:
                with self._changed:
                    self._refuse(error.stream, error)
                    self._assembler.discard(error.stream, selected)
                    if self._waiting is None:
                        self._select()  # the picture before it may still do
                continue
            with self._changed:
                for stream in self._decoded_s:
                    self._unusable.pop(stream, None)
                    self._decoded_s[stream] = selected.samples[stream].received_s
            return Observation(frame, epoch, complete_s, tuple(self._frames(missed, epoch)))

    def tell_missed(self, seen: Observation, who: LooksBack) -> None:
        """Let somebody remember what it was too slow for, and keep as much as it looks back."""
        self.memory = who.memory
        for frame in seen.missed:
            who.remember(frame.values, frame.stamp_ns / NANO)

    def _frames(self, missed: list[tuple[Selection, int]], epoch: int) -> Iterator[Frame]:
        """Those of an epoch, decoded; one that does not decode is left out."""
        for selected, of in missed:
            if of == epoch:
                with suppress(DecodeError):
                    yield self._assembler.read(selected)

    def values(self) -> dict[str, object]:
        """Entries of `/diagnostics`."""
        return {
            "observations_skipped": self.skipped,
            "messages_refused": self.refused,
            **{f"received {stream}": n for stream, n in sorted(self.received.items())},
            **stream_values(self.streams()),
        }

    def streams(self) -> list[StreamState]:
        """Every stream: its rate against the contract's, its age, its fault; none while shut."""
        if not self._open:
            return []
        limits = {camera.key: camera.max_age_s for camera in self._contract.cameras} | {
            state_stream(i): part.max_age_s for i, part in enumerate(self._contract.state)
        }
        with self._changed:
            now_s = self._clock.now().age_s
            return [
                stream_state(
                    topic,
                    self._arrivals[stream],
                    now_s,
                    self._contract.rate_hz,
                    limits[stream],
                    self._unusable.get(stream, ""),
                    "" if self.received[stream] else self._publishers(stream),
                )
                for stream, (topic, _) in self._topics.items()
            ]

    def fault(self) -> tuple[str, str]:
        """(stream, reason) that keeps observations from being complete, or two empty strings."""
        with self._changed:
            now = self._clock.now()
            for camera in self._contract.cameras:
                decoded_s = self._decoded_s.get(camera.key, np.inf)
                if camera.key in self._unusable and now.age_s - decoded_s > camera.max_age_s:
                    return camera.key, self._unusable[camera.key]
            age_s = now.age_s - self._complete_s
            if age_s <= self._silence_s and not (self._stale and self._stale.frozen):
                return "", ""
            stale = self._stale or self._assembler.check_fresh(now.age_s, now.ros_ns)
            reference = self._contract.reference_stream
            stale = stale or Stale(reference, f"no new {self._word} for {age_s:.2f} s")
            # Why its messages are unusable explains more than the age that follows from it.
            for stream in (stale.stream, *self._unusable):
                if stream in self._unusable:
                    return stream, self._unusable[stream]
            if not self.received[stale.stream]:
                return stale.stream, f"{stale.reason}: {self._publishers(stale.stream)}"
            return stale.stream, stale.reason

    def _publishers(self, stream: str) -> str:
        """Who publishes what a stream never got a message of; asked once a second at most."""
        asked_s, text = self._asked.get(stream, (-np.inf, ""))
        if time.monotonic() - asked_s > ASK_S:
            topic, type_ = self._topics[stream]
            text = _who_publishes(self._node, topic, type_)
            self._asked[stream] = (time.monotonic(), text)
        return text


def _who_publishes(node: Node, topic: str, type_: str) -> str:
    whole = node.resolve_topic_name(topic)
    graph = look(node, [whole])
    if problem := absence(graph, whole, type_):
        return printable(f"{problem.fault}; {problem.mend}")
    publisher = next(each for each in graph.publishers[whole] if each.type == type_)
    return printable(f"{publisher.node} publishes it, but sends nothing")
