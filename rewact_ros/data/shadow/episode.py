"""One recorded episode with a shadow: read in one pass, reduced to arrays."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.control.chunks import ChunkError
from rewact_ros.data.bags.reader import REWARD_TOPIC, Bag, BagError
from rewact_ros.data.export.sources import RecordedBag, Span, episodes_of
from rewact_ros.data.shadow.axes import Axes
from rewact_ros.data.shadow.executed import Executed
from rewact_ros.data.shadow.match import Match, MatchCounts, Matcher, Predicted
from rewact_ros.data.shadow.progress import Curve, Judged, curve, judged_by
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.chunk_reader import read_chunk
from rewact_ros.ros.convert import to_ns
from rewact_ros.stamps import NANO

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
# Commands and predictions of an observation are recorded within this time of it.
SETTLE_NS = NANO


@dataclass(frozen=True)
class Frames:
    """The observations that both predicted from, (N, ...) each.

    Attributes:
        start, mean, end: (N, J) distances, as in `Match`.
        progress: (N,) that was published on `rewact/reward` for the same observation; NaN: none.
        turn, turn_ahead: (N,) of a person, from 1; 0: it was no person's. Ahead: only where the
            same turn lasts until then.
        to_human, to_human_ahead: (N, 2) distance of running and shadow from what the person
            commanded, as a mean share of the ranges; NaN where it was no person's turn.
    """

    start: FloatArray
    mean: FloatArray
    end: FloatArray
    progress: FloatArray
    turn: IntArray
    turn_ahead: IntArray
    to_human: FloatArray
    to_human_ahead: FloatArray


@dataclass(frozen=True)
class ShadowedEpisode:
    """What a shadow did in one episode.

    Attributes:
        running, shadow: versions of the weights that predicted, in order of appearance.
        times_s: (N,) of the frames, from the episode's start.
        curves: progress of the run and of the shadow.
        refused: chunks that do not fit the contract, and commands.
    """

    span: Span
    contract_hash: str
    running: tuple[str, ...]
    shadow: tuple[str, ...]
    axes: Axes
    counts: MatchCounts
    times_s: FloatArray
    frames: Frames
    curves: tuple[Curve, Curve]
    judged: Judged
    refused: int


def read_episodes(recording: RecordedBag) -> Iterator[ShadowedEpisode]:
    """Yield the episodes of a recording.

    Raises:
        BagError: it holds no shadow, the run has no policy, or the file is damaged.
    """
    with Bag(recording.path, recording.namespace) as bag:
        for topic in (names.SHADOW_CHUNK, names.ACTION_CHUNK):
            bag.require(topic, "rewact_ros/msg/ActionChunk")
        for span in episodes_of(recording, bag):
            yield _Reader(recording, bag, span).read()


@dataclass
class _Reader:
    """Takes the messages of one episode, and makes arrays of them at its end."""

    recording: RecordedBag
    bag: Bag
    span: Span
    versions: tuple[dict[str, None], dict[str, None]] = field(default_factory=lambda: ({}, {}))
    matches: list[Match] = field(default_factory=list)
    rewards: tuple[dict[int, tuple[float, float]], dict[int, tuple[float, float]]] = field(
        default_factory=lambda: ({}, {})
    )
    refused: int = 0

    def read(self) -> ShadowedEpisode:
        contract, span = self.recording.contract, self.span
        self.executed = Executed(self.bag, contract)
        self.matcher = Matcher(Axes.of(contract), contract.dt_s)
        self._take(contract)
        self.matcher.close()
        self.matches.sort(key=lambda match: match.stamp_ns)
        if not self.matches:
            raise BagError(
                f"bag {self.bag.path}: {span.episode_id}: the running and the shadow policy never "
                "predicted from the same observation"
            )
        judged = judged_by(self.recording.record)
        running, shadow = (
            curve([(ns, *values) for ns, values in each.items()], span.start_ns, judged)
            for each in self.rewards
        )
        stamps_ns = np.array([match.stamp_ns for match in self.matches])
        return ShadowedEpisode(
            span=span,
            contract_hash=contract.hash,
            running=tuple(self.versions[0]),
            shadow=tuple(self.versions[1]),
            axes=self.matcher.axes,
            counts=self.matcher.counts,
            times_s=(stamps_ns - span.start_ns) / NANO,
            frames=self._frames(),
            curves=(running, shadow),
            judged=judged,
            refused=self.refused + self.executed.refused,
        )

    def _take(self, contract: Contract) -> None:
        bag, span = self.bag, self.span
        chunks = {bag.resolve(names.ACTION_CHUNK): 0, bag.resolve(names.SHADOW_CHUNK): 1}
        rewards = {bag.resolve(REWARD_TOPIC): 0, bag.resolve(names.SHADOW_REWARD): 1}
        control = bag.resolve(names.CONTROL_STATUS)
        topics = {*chunks, *rewards, control, *self.executed.topics}
        # From the beginning: the mode that an episode starts in may have been told long before.
        for message in bag.messages(topics, None, span.end_ns + SETTLE_NS):
            topic, body = message.topic, message.body
            if topic in self.executed.topics:
                self.executed.command(topic, message.logged_ns, body)
            elif topic == control:
                self.executed.mode(message.logged_ns, int(body.mode))
            elif span.start_ns <= to_ns(body.header.stamp) <= span.end_ns:
                if topic in chunks:
                    self._chunk(body, chunks[topic], contract)
                else:
                    values = float(body.value), float(body.q10)
                    self.rewards[rewards[topic]].setdefault(to_ns(body.header.stamp), values)

    def _chunk(self, body: Any, whose: int, contract: Contract) -> None:
        try:
            chunk = read_chunk(body, contract)
        except ChunkError:
            self.refused += 1
            return
        if not np.isfinite(chunk.positions).all():
            self.refused += 1  # hil refuses it as well
            return
        self.versions[whose].setdefault(str(body.policy_version))
        found = self.matcher.put(
            Predicted(chunk.stamp_ns, chunk.epoch, chunk.positions), of_shadow=bool(whose)
        )
        if found is not None:
            self.matches.append(found)

    def _frames(self) -> Frames:
        nothing = (float("nan"), 0.0)
        turns = [self._with_human(match) for match in self.matches]
        progress = [self.rewards[0].get(match.stamp_ns, nothing)[0] for match in self.matches]
        return Frames(
            start=np.array([match.start for match in self.matches]),
            mean=np.array([match.mean for match in self.matches]),
            end=np.array([match.end for match in self.matches]),
            progress=np.array(progress),
            turn=np.array([turn for turn, _, _, _ in turns], np.intp),
            turn_ahead=np.array([turn for _, turn, _, _ in turns], np.intp),
            to_human=np.array([now for _, _, now, _ in turns]),
            to_human_ahead=np.array([ahead for _, _, _, ahead in turns]),
        )

    def _with_human(self, match: Match) -> tuple[int, int, FloatArray, FloatArray]:
        """Whose turn it was, now and ahead, and how far both lay from what the person did."""
        unknown = np.full(2, np.nan)
        command, turn = self.executed.at(match.stamp_ns)
        if not turn or command is None:
            return 0, 0, unknown, unknown
        now = self._from(match.now, command)
        later, turn_ahead = self.executed.at(match.ahead_ns)
        if turn_ahead != turn or later is None:
            return turn, 0, now, unknown
        return turn, turn_ahead, now, self._from(match.ahead, later)

    def _from(self, actions: FloatArray, command: FloatArray) -> FloatArray:
        axes = self.matcher.axes
        return axes.shares(axes.distances(actions, np.stack([command, command])))
