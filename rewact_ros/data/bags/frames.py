"""Recorded messages → the observations that the live node made, or would have made, of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rewact_ros.contract import Camera, Contract, Frame, FrameAssembler, SampleError, Stale
from rewact_ros.contract.frames import NANO, Sample, state_stream
from rewact_ros.contract.schema import StatePart
from rewact_ros.data.bags.reader import Bag, BagError, Message
from rewact_ros.ros.images import camera_sample
from rewact_ros.ros.states import state_sample

# (message, when it was recorded, s and ns)
Reader = Callable[[Any, float, int], Sample]


class BagFrames:
    """Feeds the messages of a recording, one by one, to the assembler of the live node.

    Args:
        bag: open recording.
        contract: which topics make an observation.
        ages: also check, as live, what stamps may be and how old every stream is, by the time of
            recording; else a picture that is frozen or late goes unnoticed. Needs stamps on the
            recorder's clock.

    Attributes:
        topics: full names of the topics that it takes.
        refused: messages per topic that did not carry what the contract promises; as live, they
            count as not received.
        images: images of the reference camera so far; without a camera, samples of the first state
            part that were due.
        frames: observations so far.
        incomplete: images of the reference camera that never became one, by stream at fault.
        skew_ns: per stream, how far its sample lay before the reference image, last observation.

    Raises:
        BagError: a topic of the contract was not recorded, or has another type.
    """

    def __init__(self, bag: Bag, contract: Contract, ages: bool = False) -> None:
        self.refused: Counter[str] = Counter()
        self.incomplete: Counter[str] = Counter()
        self.images = self.frames = 0
        self._bag, self._ages = bag, ages
        self._reference = contract.reference_stream
        self._readers = _readers(bag, contract)
        self._assembler = _MeasuredAssembler(contract)
        self._seen: set[str] = set()
        self._unusable: dict[str, str] = {}
        self._blame: str | None = None  # of the newest image, while it is no observation

    def read(self) -> Iterator[Frame]:
        """Yield the observations that the live node would have made of the same messages.

        Raises:
            BagError: a topic of the contract never fits it, no observation is complete, or the
                file is damaged.
        """
        stale: Stale | None = None
        for message in self._bag.messages(self.topics):
            for made in self.put(message):
                if isinstance(made, Frame):
                    yield made
                else:
                    stale = made
        if why := self.unusable():
            raise BagError(f"bag {self._bag.path}: {why}")
        if not self.frames:
            why = f"{stale.stream}: {stale.reason}" if stale else "its streams never met"
            raise BagError(f"bag {self._bag.path}: no complete observation: {why}")

    @property
    def topics(self) -> frozenset[str]:
        return frozenset(self._readers)

    @property
    def skew_ns(self) -> dict[str, int]:
        return self._assembler.skew_ns

    def put(self, message: Message) -> Iterator[Frame | Stale]:
        """Take one message of `topics`; yields an observation, or why there is none."""
        received_ns = message.logged_ns if self._ages else None
        for stream, read in self._readers[message.topic]:
            try:
                sample = read(message.body, message.logged_ns / NANO, message.logged_ns)
                self._assembler.put(stream, sample, received_ns)
            except SampleError as error:
                self.refused[message.topic] += 1
                self._unusable[stream] = str(error)
                continue
            self._seen.add(stream)
            if stream == self._reference and self._assembler.is_due(sample.stamp_ns):
                self._close_image()
                self.images += 1
            if self._ages:
                made = self._assembler.assemble(message.logged_ns / NANO, message.logged_ns)
            else:
                made = self._assembler.assemble()
            if isinstance(made, Frame):
                self.frames += 1
                self._blame = None
            elif made is not None and self._is_open():
                self._blame = made.stream
            if made is not None:
                yield made

    def close(self) -> None:
        """Count the last image; call it after the last message."""
        self._close_image()

    def unusable(self) -> str:
        """Why a stream had messages and none of them fits the contract; empty if there is none."""
        never = sorted(self._unusable.keys() - self._seen)
        return f"no message of {never[0]} fits: {self._unusable[never[0]]}" if never else ""

    def _is_open(self) -> bool:
        """Whether the newest image may still become an observation."""
        return self.images > self.frames + self.incomplete.total()

    def _close_image(self) -> None:
        if self._is_open():
            self.incomplete[self._blame or self._reference] += 1
        self._blame = None


class _MeasuredAssembler(FrameAssembler):
    """The live assembler, which also tells how far apart the samples of an observation are."""

    def __init__(self, contract: Contract) -> None:
        super().__init__(contract)
        self.skew_ns: dict[str, int] = {}

    def _pick(self, stamp_ns: int) -> dict[str, Sample] | Stale:
        picked = super()._pick(stamp_ns)
        if not isinstance(picked, Stale):
            self.skew_ns = {key: stamp_ns - sample.stamp_ns for key, sample in picked.items()}
        return picked


def _readers(bag: Bag, contract: Contract) -> dict[str, list[tuple[str, Reader]]]:
    """Topic → what its messages are to the contract; arms and hands may share a topic."""
    readers: dict[str, list[tuple[str, Reader]]] = {}
    for i, part in enumerate(contract.state):
        name = bag.require(part.topic, part.type)
        readers.setdefault(name, []).append((state_stream(i), _state_reader(part)))
    for camera in contract.cameras:
        name = bag.require(camera.topic, camera.type)
        readers.setdefault(name, []).append((camera.key, _camera_reader(camera)))
    for several in readers.values():  # what else a message of the reference tells belongs to it
        several.sort(key=lambda each: each[0] == contract.reference_stream)
    return readers


def _state_reader(part: StatePart) -> Reader:
    return partial(state_sample, part)


def _camera_reader(camera: Camera) -> Reader:
    def read(body: Any, received_s: float, received_ns: int) -> Sample:
        sample = camera_sample(camera, body, received_s)
        sample = replace(sample, raw=np.array(sample.raw))  # writable, lets go of the raw message
        image = sample.value  # now: a picture that does not decode has not come
        return replace(sample, decode=lambda _: image)

    return read
