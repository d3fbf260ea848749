"""Samples of several streams → one complete observation, live and from recordings alike."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import MOST_JOINTS, STATE_KEY, Camera, Contract
from rewact_ros.stamps import NANO as NANO
from rewact_ros.stamps import Stamps, ran_back

# Samples are kept until the reference camera passes them, and this long where it is silent.
KEEP_NS = NANO
# A camera is frozen when it repeats itself although some joint moved by more than FROZEN_MOTION
# (rad, m or normalized) within FROZEN_WINDOW_S: far more than a joint at rest trembles, and enough
# to see in any picture. Motion counts once it is older than max_age_s, for pictures lag.
FROZEN_MOTION, FROZEN_WINDOW_S = 0.05, 1.0
# So many samples tell a rate.
RATE_SAMPLES = 8
# Pictures are compared on every n-th row (or byte) first, and in full only where those agree.
COMPARE_STRIDE = 8
# A state part that is the reference comes faster than the contract's rate: of its samples, those
# are taken that first come up to so much of a period before the next one is due.
EARLY = 0.1
# More names of joints than that are no help.
MOST_NAMED = 30
# Data sets and networks hold float32: what is beyond becomes infinite there.
LARGEST_VALUE = float(np.finfo(np.float32).max)


class SampleError(ValueError):
    """A message does not carry what the contract promises; the message names the stream."""


class DecodeError(SampleError):
    """A picture of `stream` does not decode into what the contract promises."""

    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(reason)
        self.stream = stream


@dataclass(frozen=True, eq=False)
class Sample:
    """One value with its header stamp and, live, the time it was received on the age clock.

    Attributes:
        raw: what came; two pictures of a stream are the same where this is.
        decode: makes the value of it, where what came is not the value itself.
    """

    stamp_ns: int
    received_s: float
    raw: NDArray[np.generic]
    decode: Callable[[NDArray[np.generic]], NDArray[np.generic]] | None = None

    @cached_property
    def value(self) -> NDArray[np.generic]:
        """The value, decoded once. Raises SampleError where it cannot be."""
        return self.raw if self.decode is None else self.decode(self.raw)


@dataclass(frozen=True)
class Selection:
    """The samples that make one observation, by stream; none of them need be decoded yet."""

    stamp_ns: int
    samples: dict[str, Sample]


@dataclass(frozen=True)
class Frame:
    """A complete observation.

    `values` holds `observation.state` as (S,) float32 and each `observation.images.NAME` as
    (H, W, 3) uint8 RGB. `stamp_ns` is the header stamp of the reference: the first camera, or the
    first state part where there is none.
    """

    stamp_ns: int
    values: dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Stale:
    """Why there is no observation: the stream that is missing, old or out of step, and why.

    A `frozen` stream is beyond doubt; any other may only be late, and its age limit tells.
    """

    stream: str
    reason: str
    frozen: bool = False


@dataclass
class _Stream:
    """`poses`: where the joints were, and when, for each camera sample that repeats the last.

    `newest_ns`: stamps of the last few samples, which tell the rate.
    """

    topic: str
    type: str
    max_age_s: float
    samples: deque[Sample] = field(default_factory=deque)
    poses: deque[tuple[float, NDArray[np.float64]]] = field(default_factory=deque)
    stamps: Stamps = field(default_factory=Stamps)
    newest_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RATE_SAMPLES))

    def too_slow(self, period_s: float) -> str:
        """The rate, where samples come further apart than `period_s`; else an empty string."""
        if len(self.newest_ns) < RATE_SAMPLES:
            return ""
        mean_s = (self.newest_ns[-1] - self.newest_ns[0]) / NANO / (RATE_SAMPLES - 1)
        return f"{self.topic} comes at {1 / mean_s:.1f} Hz" if mean_s > period_s else ""


def is_usable(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values are finite, and stay so in float32; of any shape."""
    return np.less_equal(np.abs(values), LARGEST_VALUE)


def select_joints(
    names: Sequence[str], values: Sequence[float], wanted: Sequence[str], topic: str
) -> NDArray[np.float64]:
    """Pick the wanted joints by name, in any order of arrival.

    Returns:
        (len(wanted),) float64.

    Raises:
        SampleError: a joint is absent, listed twice or not finite in float32; values are missing.
    """
    if len(names) != len(values):
        raise SampleError(
            f"{topic}: expected {len(names)} values for as many names, got {len(values)}"
        )
    if len(names) > MOST_JOINTS:
        raise SampleError(f"{topic}: expected at most {MOST_JOINTS} joints, got {len(names)}")
    index = {name: i for i, name in enumerate(names)}
    if len(index) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise SampleError(f"{topic}: joint {twice} is listed twice")
    missing = [name for name in wanted if name not in index]
    if missing:
        some = ", ".join([*names[:MOST_NAMED], "…"] if len(names) > MOST_NAMED else names)
        raise SampleError(f"{topic}: joint {missing[0]} is missing; got {some}")
    picked = np.array([values[index[name]] for name in wanted], dtype=np.float64)
    usable = is_usable(picked)
    if not usable.all():
        bad = int(np.flatnonzero(~usable)[0])
        raise SampleError(f"{topic}: joint {wanted[bad]} is {picked[bad]}")
    return picked


class FrameAssembler:
    """Keeps the newest samples of every stream and joins them on the reference's stamp.

    For each new image of the first camera it takes, of every other stream, the newest sample with
    a stamp not after the image's; without a camera, for samples of the first state part, at the
    contract's rate. An observation is complete or it does not exist: nothing is
    zero-filled, repeated or extrapolated. Not thread-safe; the owner locks.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._max_skew_ns = round(contract.max_skew_s * NANO)
        self._reference = contract.reference_stream
        # A camera's pace is its own: it is not thinned here.
        self._period_ns = 0 if contract.cameras else round(NANO / contract.rate_hz)
        self._due_ns = 0
        self._streams = {
            camera.key: _Stream(camera.topic, camera.type, camera.max_age_s)
            for camera in contract.cameras
        }
        for i, part in enumerate(contract.state):
            self._streams[state_stream(i)] = _Stream(part.topic, part.type, part.max_age_s)
        self._cameras = frozenset(camera.key for camera in contract.cameras)
        self._parts = [self._streams[state_stream(i)] for i in range(len(contract.state))]
        self._places = _places(contract)
        self._last_stamp_ns: int | None = None
        self._now_ns = 0

    def put(self, stream: str, sample: Sample, now_ns: int | None = None) -> None:
        """Store a sample. Time that runs backwards (clock jump, restart) flushes all streams.

        Args:
            stream: that it is of.
            sample: with the stamp that its publisher gave it.
            now_ns: when it was received, on the clock of the stamps; None: not known, and only the
                stamps themselves tell that time ran backwards.

        Raises:
            SampleError: the stamp cannot be (see `stamps.py`); nothing is stored.
        """
        into = self._streams[stream]
        if now_ns is not None:
            if ran_back(now_ns, self._now_ns):
                self._flush()
            self._now_ns = now_ns
            if fault := into.stamps.fault(sample.stamp_ns, now_ns):
                raise SampleError(f"{into.topic}: {fault}")
        samples = into.samples
        if stream in self._cameras:
            self._watch_picture(into, sample)
        if samples and sample.stamp_ns < samples[-1].stamp_ns:
            if ran_back(sample.stamp_ns, samples[-1].stamp_ns):
                self._flush()
            samples.clear()
            if stream == self._reference:
                self._last_stamp_ns, self._due_ns = None, 0
        samples.append(sample)
        into.newest_ns.append(sample.stamp_ns)
        if stream == self._reference:
            for each in self._streams.values():
                _forget(each.samples, sample.stamp_ns)
        _forget(samples, sample.stamp_ns - KEEP_NS)

    def _flush(self) -> None:
        """Samples of before and of after are of different passes: they never meet."""
        self._last_stamp_ns, self._due_ns = None, 0
        for each in self._streams.values():
            each.samples.clear()
            each.newest_ns.clear()

    def _watch_picture(self, stream: _Stream, sample: Sample) -> None:
        """Remember the pose of every picture that is the same as the one before."""
        if not stream.samples or not _same_picture(stream.samples[-1].raw, sample.raw):
            stream.poses.clear()
        if len(self._places) and all(part.samples for part in self._parts):
            pose = np.concatenate([part.samples[-1].value for part in self._parts])[self._places]
            stream.poses.append((sample.received_s, pose))
        oldest_s = sample.received_s - FROZEN_WINDOW_S - stream.max_age_s
        while stream.poses and stream.poses[0][0] < oldest_s:
            stream.poses.popleft()

    def check_fresh(self, now_s: float | None = None, now_ns: int | None = None) -> Stale | None:
        """Name the first stream that is silent or old; see `assemble` for the arguments."""
        for key, stream in self._streams.items():
            if not stream.samples:
                return Stale(key, f"no message received yet on {stream.topic} ({stream.type})")
            age = None if now_s is None else now_s - stream.samples[-1].received_s
            if age is not None and age > stream.max_age_s:
                slow = stream.too_slow(stream.max_age_s)
                why = f"; {slow}: raise its rate, or max_age_s" if slow else ""
                limit_text = f"limit {stream.max_age_s:g} s"
                return Stale(key, f"last message {age:.2f} s ago, {limit_text}{why}")
            if now_s is not None and (joint := self._unseen_motion(stream, now_s)):
                return Stale(key, f"the picture does not change although {joint} moved", True)
        newest = self._streams[self._reference].samples[-1]
        if now_ns is not None:
            age = (now_ns - newest.stamp_ns) / NANO
            limit = self._streams[self._reference].max_age_s
            if abs(age) > limit:
                return Stale(
                    self._reference,
                    f"header stamp is {age:+.2f} s old, limit ±{limit:g} s; compare the clocks",
                )
        return None

    def _unseen_motion(self, stream: _Stream, now_s: float) -> str:
        """Joint that moved while the picture stayed the same, or an empty string."""
        poses = [pose for seen_s, pose in stream.poses if now_s - seen_s > stream.max_age_s]
        if len(poses) < 2:
            return ""
        travel = np.ptp(poses, axis=0)
        joint = int(np.argmax(travel))
        name = self.contract.state_names[self._places[joint]]
        return name if travel[joint] > FROZEN_MOTION else ""

    def assemble(
        self, now_s: float | None = None, now_ns: int | None = None
    ) -> Frame | Stale | None:
        """Build the observation of the newest reference image.

        Args:
            now_s: current time on the age clock; None (recordings) skips ages by receipt.
            now_ns: current ROS time; None skips the age of the header stamp.

        Returns:
            a `Frame`; a `Stale` that names the stream at fault; or None when all streams are
            fresh but the newest reference image was already used.

        Raises:
            DecodeError: a picture of it does not decode.
        """
        selection = self.select(now_s, now_ns)
        return self.read(selection) if isinstance(selection, Selection) else selection

    def select(
        self, now_s: float | None = None, now_ns: int | None = None
    ) -> Selection | Stale | None:
        """As `assemble`, but nothing is decoded: it takes microseconds; `read` does the rest."""
        stale = self.check_fresh(now_s, now_ns)
        if stale:
            return stale
        newest = self._streams[self._reference].samples[-1]
        if newest.stamp_ns == self._last_stamp_ns or not self.is_due(newest.stamp_ns):
            return None
        picked = self._pick(newest.stamp_ns)
        if isinstance(picked, Stale):
            return picked
        self._last_stamp_ns = newest.stamp_ns
        if self._period_ns:
            late = newest.stamp_ns - self._due_ns > self._period_ns
            self._due_ns = (newest.stamp_ns if late else self._due_ns) + self._period_ns
        return Selection(newest.stamp_ns, picked)

    def is_due(self, stamp_ns: int) -> bool:
        """Whether a sample of the reference may make an observation: not before the next is due."""
        return stamp_ns >= self._due_ns - EARLY * self._period_ns

    def discard(self, stream: str, selection: Selection) -> None:
        """Forget the selected sample of a stream, for it does not decode: it never came.

        The reference image may then make an observation with the stream's sample before.
        """
        samples, sample = self._streams[stream].samples, selection.samples[stream]
        kept = [each for each in samples if each is not sample]
        samples.clear()
        samples.extend(kept)
        if self._last_stamp_ns != selection.stamp_ns:
            return
        if stream != self._reference or not kept:
            self._last_stamp_ns = None
        elif kept[-1].stamp_ns < selection.stamp_ns:
            self._last_stamp_ns = kept[-1].stamp_ns  # used, or passed over, already

    def _pick(self, stamp_ns: int) -> dict[str, Sample] | Stale:
        """Newest sample of every stream with stamp ≤ the reference's, within the allowed skew."""
        picked: dict[str, Sample] = {}
        for key, stream in self._streams.items():
            sample = next((s for s in reversed(stream.samples) if s.stamp_ns <= stamp_ns), None)
            if sample is None or stamp_ns - sample.stamp_ns > self._max_skew_ns:
                gap = (stamp_ns - (sample or stream.samples[0]).stamp_ns) / NANO
                slow = stream.too_slow(self.contract.max_skew_s)
                why = f"; {slow}: raise its rate, or max_skew_s" if slow else ""
                return Stale(
                    key,
                    f"nearest stamp is {gap:+.3f} s before {self._reference}, "
                    f"allowed 0 to {self.contract.max_skew_s:g} s{why}",
                )
            picked[key] = sample
        return picked

    def read(self, selection: Selection) -> Frame:
        """Decode what is selected; in any thread, for it touches nothing else.

        Raises:
            DecodeError: a picture does not decode; `discard` it.
        """
        samples = selection.samples
        parts = [samples[state_stream(i)].value for i in range(len(self.contract.state))]
        values: dict[str, NDArray[np.generic]] = {
            STATE_KEY: np.concatenate(parts).astype(np.float32)
        }
        for camera in self.contract.cameras:
            try:
                values[camera.key] = samples[camera.key].value
            except SampleError as error:
                raise DecodeError(camera.key, str(error)) from error
        return Frame(selection.stamp_ns, values)


def _places(contract: Contract) -> NDArray[np.intp]:
    """Indices of the state that are places: positions of joints, and of poses.

    Speeds and forces tremble in any unit, and the rotation vector of a pose jumps by 2π at half a
    turn: none of them shows that something moved.
    """
    fields = [(part.field, name) for part in contract.state for name in part.joints]
    place = [
        field == "position" or (field == "pose" and not name.rpartition(".")[2].startswith("w"))
        for field, name in fields
    ]
    return np.flatnonzero(place)


def _same_picture(a: NDArray[np.generic], b: NDArray[np.generic]) -> bool:
    """Whether two pictures, decoded or not, are equal; nearly free where they are not."""
    n = COMPARE_STRIDE
    return np.array_equal(a[::n], b[::n]) and np.array_equal(a, b)


def _forget(samples: deque[Sample], stamp_ns: int) -> None:
    """Drop what can no longer be the newest sample with a stamp not after `stamp_ns` or later.

    One more is kept, in case that one turns out not to decode.
    """
    while len(samples) > 2 and samples[2].stamp_ns <= stamp_ns:
        samples.popleft()


def state_stream(index: int) -> str:
    """Stream name of the state part `index`."""
    return f"{STATE_KEY}[{index}]"


def check_image(camera: Camera, size: tuple[int, ...]) -> None:
    """Check the (height, width) of a picture against its camera.

    Raises:
        SampleError: it is not the contract's.
    """
    if size != camera.shape[:2]:
        raise SampleError(
            f"{camera.topic}: expected a {camera.shape} uint8 image, got {(*size, 3)}; set the "
            "camera to that size or correct 'shape' in the contract"
        )
