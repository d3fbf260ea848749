"""One recorded episode of ordinary work: what the judge said while the policy led, how it ended."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.control.modes import Mode
from rewact_ros.data.bags.episode_file import OUTCOMES, EpisodeRecord, read_episode
from rewact_ros.data.bags.reader import REWARD_TOPIC, Bag
from rewact_ros.data.bags.story_topics import CONTROL, EVENTS
from rewact_ros.ros.convert import to_ns
from rewact_ros.supervision.evidence import Ended
from rewact_ros.supervision.signals import PolicySample
from rewact_ros.supervision.verdict import SUPERVISOR, Change, Outcome, Termination
from rewact_ros.tokens import EpisodeOwners

FEATURES = "rewact/reward_features"
# A key that was pressed as late after the end has judged it anew, and did not end it.
_PRESS_S = 3.0


@dataclass(frozen=True)
class WorkedEpisode:
    """What a recording tells.

    Attributes:
        path, record: of the recording.
        ended: how, as people say; ``whole`` is left to who knows the time-out.
        samples: what was said from the beginning of the policy's lead to the end, or to the moment
            in which somebody else came into it.
        resumed_s: when the policy led again after a hold, from which on signals begin anew.
        judges: reward hash -> samples; "" where the recording does not say.
        start_s, end_s: on the clock of the stamps; the latter of the verdict or the key.
        led_s: how long the policy led.
        succeeded_s: when it succeeded, as a person told afterwards; None: nobody has.
    """

    path: Path
    record: EpisodeRecord
    ended: Ended
    samples: list[PolicySample]
    resumed_s: tuple[float, ...]
    judges: Counter[str]
    start_s: float
    end_s: float
    led_s: float
    succeeded_s: float | None


def read_worked(path: Path) -> WorkedEpisode | str:
    """Read one recording that our recorder made; a text says why it tells nothing.

    Raises:
        BagError, EpisodeFileError: it cannot be read.
    """
    record = read_episode(path)
    if record.ended_ns is None:
        return "the recording has no end (rewact bag recover)"
    reader = _Reader(record)
    with Bag(path, record.namespace) as bag:
        if record.succeeded_s is not None:
            reader.told_s = bag.span_ns[0] / NANO + record.succeeded_s
        topics = {bag.resolve(topic): topic for topic in (EVENTS, CONTROL, REWARD_TOPIC, FEATURES)}
        for message in bag.messages(topics, end_ns=record.ended_ns + 1):
            reader.take(topics[message.topic], message.logged_ns, message.body)
            if reader.over:
                break
    return reader.worked(path)


@dataclass
class _Reader:
    """Goes through an episode's messages as the supervisor did."""

    record: EpisodeRecord
    over: bool = False
    told_s: float | None = None
    _begun_ns: int | None = None  # log time
    _start_ns: int = 0  # on the clock of the stamps
    _end: tuple[int, int] | None = None  # log time, and on the clock of the stamps
    _mode: int | None = None
    _since_ns: int = 0
    _led_ns: int = 0
    _held: bool = False
    _taken_over: bool = False
    _asked: bool = False
    _termination: str = ""
    _pressed: bool = False
    _samples: list[PolicySample] = field(default_factory=list)
    _features: dict[tuple[int, str], NDArray[np.float32]] = field(default_factory=dict)
    _resumed_s: list[float] = field(default_factory=list)
    _judges: Counter[str] = field(default_factory=Counter)
    _owners: EpisodeOwners = field(default_factory=EpisodeOwners)

    def take(self, topic: str, logged_ns: int, body: Any) -> None:
        """Take the next message."""
        if self._begun_ns is None and self.record.running_ns is None:
            self._begin(logged_ns, logged_ns)  # by a person's key, whenever the policy leads
        if topic == EVENTS:
            self._event(logged_ns, body)
        elif topic == CONTROL:
            self._control(logged_ns, int(body.mode))
        elif topic == FEATURES:
            features = np.asarray(body.features, np.float32)
            if np.isfinite(features).all():
                self._features = {(to_ns(body.header.stamp), str(body.reward_hash)): features}
        else:
            self._reward(body)

    def _begin(self, logged_ns: int, stamp_ns: int) -> None:
        self._begun_ns, self._start_ns, self._since_ns = logged_ns, stamp_ns, logged_ns

    def _event(self, logged_ns: int, body: Any) -> None:
        tokens = getattr(body, "proof", ""), getattr(body, "next", "")
        owner = self._owners.take(body.episode_id, body.event <= Change.RUNNING, *tokens)
        if not owner or self.record.running_ns is None:
            return
        stamp_ns = to_ns(body.header.stamp)
        if body.event == Change.RUNNING and self._begun_ns is None:
            self._begin(logged_ns, stamp_ns)
        elif body.event == Change.HELP:
            self._asked = True
            self._close(logged_ns, stamp_ns)
        elif body.event == Change.VERDICT:
            self._termination = str(body.termination_reason)
            outcome = OUTCOMES[body.outcome] if body.outcome < len(OUTCOMES) else ""
            by_key = self._termination == Termination.HUMAN
            self._pressed = by_key and outcome == self.record.outcome
            self._close(logged_ns, stamp_ns)

    def _control(self, logged_ns: int, mode: int) -> None:
        before, self._mode = self._mode, mode
        if self._begun_ns is None:
            return
        if before == Mode.POLICY:
            self._led_ns += logged_ns - self._since_ns
        self._since_ns = logged_ns
        if mode == Mode.POLICY and self._held:
            self._resumed_s.append(logged_ns / NANO)
        self._held = mode == Mode.HOLD
        if mode == Mode.HUMAN and (self._led_ns or before == Mode.POLICY):
            self._taken_over = True
            self._close(logged_ns, logged_ns)

    def _reward(self, body: Any) -> None:
        stamp_ns = to_ns(body.header.stamp)
        if not (0.0 <= body.value <= 1.0 or np.isnan(body.value)):
            return  # refused live, too
        leads = self._mode is None or self._mode == Mode.POLICY
        if self._begun_ns is None or stamp_ns < self._start_ns or not (leads or self._samples):
            return
        judge = str(getattr(body, "reward_hash", ""))
        self._judges[judge] += 1
        self._samples.append(
            PolicySample(
                stamp_ns / NANO,
                float(body.value),
                float(body.q10),
                float(body.entropy),
                self._features.get((stamp_ns, judge)),
            )
        )

    def _close(self, logged_ns: int, stamp_ns: int) -> None:
        """The policy's part is over; a verdict may still come, of what somebody else did."""
        if self._end is None:
            self._end = logged_ns, stamp_ns
            if self._begun_ns is not None and self._mode in (None, Mode.POLICY):
                self._led_ns += logged_ns - self._since_ns
        self.over = True

    def worked(self, path: Path) -> WorkedEpisode | str:
        """What it was."""
        record = self.record
        assert record.ended_ns is not None
        judged = record.by not in ("", SUPERVISOR)
        outcome = Outcome(OUTCOMES.index(record.outcome)) if judged else Outcome.UNLABELLED
        if self._end is None:  # a person's recording, or one without the supervisor's verdict
            self._close(record.ended_ns, record.ended_ns)
            self._termination = record.termination_reason
            self._pressed = record.running_ns is None and _by_key(record)
        assert self._end is not None
        if self._begun_ns is None or not self._samples:
            return "no policy led, or nobody judged aloud (no rewact/reward)"
        told_s = self.told_s if outcome is Outcome.SUCCESS else None
        if told_s is not None and told_s > self._end[1] / NANO:
            told_s = None  # after what is judged here
        ended = Ended(
            self._termination,
            outcome,
            self._pressed and judged,
            self._taken_over,
            self._asked,
            told=told_s is not None,
        )
        return WorkedEpisode(
            path,
            record,
            ended,
            self._samples,
            tuple(self._resumed_s),
            self._judges,
            self._samples[0].stamp_s,
            self._end[1] / NANO,
            self._led_ns / NANO,
            told_s,
        )


def _by_key(record: EpisodeRecord) -> bool:
    """Whether the key that ended a person's recording is its verdict still."""
    if record.termination_reason != Termination.HUMAN or record.ended_ns is None:
        return False
    try:
        labelled_s = datetime.fromisoformat(record.labelled_at).timestamp()
    except ValueError:
        return False
    return abs(labelled_s - record.ended_ns / NANO) <= _PRESS_S
