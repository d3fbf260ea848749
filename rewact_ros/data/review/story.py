"""What happened in a recording: modes, people's turns, alarms, the episode's events, holes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.control.modes import Mode, mode_name
from rewact_ros.data.bags.episode_file import OUTCOMES
from rewact_ros.data.bags.reader import Bag
from rewact_ros.data.bags.story_topics import CONTROL, EVENTS, SUPERVISOR
from rewact_ros.supervision.verdict import Change
from rewact_ros.text import printable

_TYPES = {
    EVENTS: "rewact_ros/msg/EpisodeEvent",
    CONTROL: "rewact_ros/msg/ControlStatus",
    SUPERVISOR: "rewact_ros/msg/SupervisorStatus",
}
# A page shows so many; more are no story.
MOST_HAPPENINGS = 500
_TEXT = 160
# A distance of two and a half is no jitter.
_HOLE, _LEAST_FRAMES = 2.5, 10


@dataclass
class Story:
    """What happened; times in s from the recording's first message.

    Attributes:
        happenings: time, kind (`episode`, `mode` or `alarm`) and words.
        human_s: from when to when a person led.
        interventions: how often a person took over.
        alarms: how often one began.
    """

    happenings: list[dict[str, Any]] = field(default_factory=list)
    human_s: list[tuple[float, float]] = field(default_factory=list)
    interventions: int = 0
    alarms: int = 0
    _mode: int | None = None
    _standing: frozenset[str] = frozenset()

    def take(self, topic: str, at_s: float, body: Any) -> None:
        """The next message."""
        if topic == CONTROL:
            self._control(at_s, int(body.mode), str(getattr(body, "reason", "")))
        elif topic == SUPERVISOR:
            self._alarms(at_s, frozenset(map(str, getattr(body, "alarms", ()))))
        else:
            self._event(at_s, body)

    def end(self, at_s: float) -> None:
        """After the last message."""
        if self._mode == Mode.HUMAN:
            self.human_s[-1] = (self.human_s[-1][0], at_s)

    def _control(self, at_s: float, mode: int, reason: str) -> None:
        before, self._mode = self._mode, mode
        if mode == before:
            return
        if before == Mode.HUMAN:
            self.human_s[-1] = (self.human_s[-1][0], at_s)
        if mode == Mode.HUMAN:
            self.interventions += 1
            self.human_s.append((at_s, at_s))
        name = mode_name(mode)
        self._tell(at_s, "mode", f"{name}: {reason}" if reason else name)

    def _alarms(self, at_s: float, standing: frozenset[str]) -> None:
        begun = sorted(standing - self._standing)
        self._standing = standing
        self.alarms += len(begun)
        for name in begun:
            self._tell(at_s, "alarm", name)

    def _event(self, at_s: float, body: Any) -> None:
        number, outcome = int(body.event), int(body.outcome)
        words = [Change(number).name.lower() if number in set(Change) else f"event {number}"]
        if number in (Change.VERDICT, Change.RELABELLED) and outcome < len(OUTCOMES):
            words.append(OUTCOMES[outcome])
        words += [str(body.termination_reason), str(getattr(body, "detail", ""))]
        self._tell(at_s, "episode", ", ".join(filter(None, words)))

    def _tell(self, at_s: float, kind: str, text: str) -> None:
        if len(self.happenings) < MOST_HAPPENINGS:
            told = {"t": round(at_s, 3), "kind": kind, "text": printable(text, _TEXT)}
            self.happenings.append(told)


def read_story(bag: Bag) -> Story:
    """Read the few messages of a recording that tell what happened.

    Raises:
        BagError: it is damaged.
    """
    start_ns, end_ns = bag.span_ns
    story = Story()
    topics = {bag.resolve(topic): topic for topic in _TYPES}
    # Anybody may name a topic so; what is of another type tells nothing here.
    wanted = [name for name, topic in topics.items() if bag.topics.get(name) == _TYPES[topic]]
    for message in bag.messages(wanted):
        story.take(topics[message.topic], (message.logged_ns - start_ns) / NANO, message.body)
    story.end((end_ns - start_ns) / NANO)
    return story


def missing_frames(times_ns: NDArray[np.int64]) -> int:
    """Pictures that are not there, by the usual distance between those that are; times (n,) ns."""
    if len(times_ns) < _LEAST_FRAMES:
        return 0
    apart = np.diff(times_ns)
    usual = float(np.median(apart))
    if usual <= 0:
        return 0
    holes = apart[apart > _HOLE * usual]
    return int(np.round(holes / usual).sum()) - len(holes)
