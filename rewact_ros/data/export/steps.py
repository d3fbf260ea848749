"""A recorded episode as steps at the contract's rate: observation, executed command, mode, reward.

Everything comes in one pass over the messages, and no more than `SETTLE_S` of it is kept.
"""

import math
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract, Frame, SampleError
from rewact_ros.contract.frames import NANO
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import REWARD_TOPIC, Bag, BagError
from rewact_ros.data.export.labels import UNKNOWN_MODE
from rewact_ros.ros.commands import command_decoder
from rewact_ros.ros.convert import to_ns

CONTROL_TOPIC = "rewact/control_status"
# Commands, modes and rewards of an observation are recorded within this time of its stamp; the
# joints that go with the first one, within this time before it.
SETTLE_S = LEAD_S = 1.0
PHASE_GAIN = 0.1  # how fast the contract's grid follows a camera whose clock runs a little off
_REASONS_S = 10.0


@dataclass(frozen=True)
class Step:
    """One frame of a dataset.

    Attributes:
        stamp_ns: of the reference camera.
        values: `observation.state` (S,) float32 and images (H, W, 3) uint8.
        action: (A,) float32, the first command that was sent at or after `stamp_ns`.
        mode: of the command path then (`Mode`), `UNKNOWN_MODE` where nobody said.
        predicted_reward: the policy's own for this observation; NaN where there is none.
        policy_version: of the newest reward up to then; empty: there was none.
        after_gap: steps are missing between the one before and this one.
    """

    stamp_ns: int
    values: dict[str, NDArray[Any]]
    action: NDArray[np.float32]
    mode: int
    predicted_reward: float
    policy_version: str
    after_gap: bool = False


@dataclass(frozen=True)
class Gap:
    """Time between two steps, or at an end of the episode, in which there is no step."""

    start_ns: int
    end_ns: int
    why: str


@dataclass
class StepReport:
    """What became of an episode's images.

    Attributes:
        images: of the reference camera, with those around the episode that were read with it.
        steps: kept.
        surplus: observations left out because the camera is faster than the contract's rate.
        without_command: observations after which no command was sent in time.
        incomplete: images that never became an observation, by stream at fault.
        refused: messages that did not carry what the contract promises, by topic.
        gaps: where steps are missing.
        skew_ms: per stream, for every observation, how far its sample lay before the image.
        camera_hz: mean rate of the observations; NaN with fewer than two.
    """

    images: int = 0
    steps: int = 0
    surplus: int = 0
    without_command: int = 0
    incomplete: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    skew_ms: dict[str, array[float]] = field(default_factory=dict)
    camera_hz: float = math.nan


class Pacer:
    """Keeps, of stamps that come at the camera's rate, those nearest to a grid at the contract's.

    A camera at that rate keeps all of them, also one that is up to 3 % off: the grid follows it.
    """

    def __init__(self, period_ns: int, max_step_ns: int) -> None:
        self.surplus = 0
        self._period_ns, self._max_step_ns = period_ns, max_step_ns
        self._due_ns = 0
        self._candidate: Step | None = None

    def put(self, step: Step) -> Iterator[Step]:
        """Take the next step; yields the one before when that is the nearest."""
        before, self._candidate = self._candidate, step
        if before is None:
            self._due_ns = step.stamp_ns
        elif abs(step.stamp_ns - self._due_ns) <= abs(before.stamp_ns - self._due_ns):
            self.surplus += 1
        else:
            yield before
            late_ns = before.stamp_ns - self._due_ns
            self._due_ns += self._period_ns + round(PHASE_GAIN * late_ns)
            if step.stamp_ns - before.stamp_ns > self._max_step_ns:
                self._due_ns = step.stamp_ns

    def close(self) -> Iterator[Step]:
        """Yield the last one, unless it lies between the grid's points."""
        last, self._candidate = self._candidate, None
        if last is not None and self._due_ns - last.stamp_ns < self._period_ns / 2:
            yield last
        elif last is not None:
            self.surplus += 1


class StepReader:
    """Reads one episode of a recording.

    Args:
        bag: open recording.
        contract: of the robot.
        start_ns, end_ns: steps with stamps from the one to the other belong to the episode.
        max_step: longest time between two steps, in periods of the contract's rate; more is a gap.

    Attributes:
        report: complete when all steps were read.

    Raises:
        BagError: a topic of the contract was not recorded, or has another type.
    """

    def __init__(
        self, bag: Bag, contract: Contract, start_ns: int, end_ns: int, max_step: float
    ) -> None:
        self.report = StepReport()
        self._bag, self._start_ns, self._end_ns = bag, start_ns, end_ns
        self._period_ns = round(NANO / contract.rate_hz)
        self._max_step_ns = round(max_step * self._period_ns)
        self._frames = BagFrames(bag, contract, ages=True)
        self._reference = contract.reference_stream
        self._word = "image" if contract.cameras else "message"
        self._pending: deque[Frame] = deque()
        self._parts = [
            (bag.require(part.topic, part.type), command_decoder(part)) for part in contract.action
        ]
        self._commands: list[deque[tuple[int, NDArray[np.float64]]]] = [
            deque() for _ in self._parts
        ]
        # hil reports a mode right after the first command in it: that report counts for it.
        self._report_lag_ns = round(0.5 * NANO / contract.command_rate_hz)
        self._modes: deque[tuple[int, int]] = deque()
        self._rewards: dict[int, tuple[float, str]] = {}
        self._version = ""
        self._reasons: deque[tuple[int, str]] = deque()
        self._stamps: tuple[int, int, int] | None = None  # first, last, how many

    def steps(self, on_time: Callable[[int], None] | None = None) -> Iterator[Step]:
        """Yield the episode's steps in order.

        Args:
            on_time: called with the time of recording of each message that was read.

        Raises:
            BagError: a topic never fits the contract, or the file is damaged.
        """
        pacer = Pacer(self._period_ns, self._max_step_ns)
        last_ns: int | None = None
        for step in self._paced(pacer, on_time):
            gap = self._note_gap(last_ns or self._start_ns, step.stamp_ns)
            last_ns, self.report.steps = step.stamp_ns, self.report.steps + 1
            yield Step(**{**vars(step), "after_gap": True}) if gap else step
        self._note_gap(last_ns or self._start_ns, self._end_ns)
        self.report.surplus = pacer.surplus
        self._finish()

    def _paced(self, pacer: Pacer, on_time: Callable[[int], None] | None) -> Iterator[Step]:
        for frame in self._settled(on_time):
            step = self._step(frame)
            if step is not None:
                yield from pacer.put(step)
        yield from pacer.close()

    def _settled(self, on_time: Callable[[int], None] | None) -> Iterator[Frame]:
        """Yield the episode's observations once all that belongs to them has been taken."""
        settle_ns, lead_ns = round(SETTLE_S * NANO), round(LEAD_S * NANO)
        control, reward = self._bag.resolve(CONTROL_TOPIC), self._bag.resolve(REWARD_TOPIC)
        topics = {*self._frames.topics, *(name for name, _ in self._parts), control, reward}
        span = (self._start_ns - lead_ns, self._end_ns + settle_ns)
        for message in self._bag.messages(topics, *span):
            topic, logged_ns, body = message.topic, message.logged_ns, message.body
            if topic == control:
                self._modes.append((logged_ns, int(body.mode)))
            elif topic == reward:
                known = float(body.value), str(body.policy_version)
                self._rewards[to_ns(body.header.stamp)] = known
            self._take_command(topic, logged_ns, body)
            if topic in self._frames.topics:
                for made in self._frames.put(message):
                    if isinstance(made, Frame):
                        self._observe(made)
                    else:
                        self._blame(logged_ns, f"{made.stream}: {made.reason}")
            while self._pending and self._pending[0].stamp_ns < logged_ns - settle_ns:
                yield self._pending.popleft()
            if on_time is not None:
                on_time(logged_ns)
        while self._pending:
            yield self._pending.popleft()

    def _observe(self, frame: Frame) -> None:
        stamp_ns = frame.stamp_ns
        if not self._start_ns <= stamp_ns <= self._end_ns:
            return
        self._pending.append(frame)
        first_ns, _, count = self._stamps or (stamp_ns, stamp_ns, 0)
        self._stamps = first_ns, stamp_ns, count + 1
        for stream, skew_ns in self._frames.skew_ns.items():
            self.report.skew_ms.setdefault(stream, array("f")).append(skew_ns / 1e6)

    def _take_command(self, topic: str, logged_ns: int, body: Any) -> None:
        for (name, read), commands in zip(self._parts, self._commands, strict=True):
            if topic != name:
                continue
            try:
                commands.append((logged_ns, read(body)))
            except SampleError as error:
                self.report.refused[topic] += 1
                self._blame(logged_ns, str(error))

    def _step(self, frame: Frame) -> Step | None:
        """Join an observation with what belongs to it; None without a command in time."""
        stamp_ns = frame.stamp_ns
        reward, self._version = self._rewards.get(stamp_ns, (math.nan, self._version))
        for old in [stamp for stamp in self._rewards if stamp <= stamp_ns]:
            del self._rewards[old]
        first = []
        for (name, _), commands in zip(self._parts, self._commands, strict=True):
            while commands and commands[0][0] < stamp_ns:
                commands.popleft()
            if not commands or commands[0][0] - stamp_ns > self._max_step_ns:
                self.report.without_command += 1
                self._blame(stamp_ns, f"no command on {name} in {self._max_step_ns / 1e6:.0f} ms")
                return None
            first.append(commands[0])
        return Step(
            stamp_ns,
            frame.values,
            np.concatenate([values for _, values in first]).astype(np.float32),
            self._mode(min(sent_ns for sent_ns, _ in first) + self._report_lag_ns),
            reward,
            self._version,
        )

    def _mode(self, at_ns: int) -> int:
        """Newest mode that was reported until then."""
        while len(self._modes) > 1 and self._modes[1][0] <= at_ns:
            self._modes.popleft()
        known = self._modes and self._modes[0][0] <= at_ns
        return self._modes[0][1] if known else UNKNOWN_MODE

    def _note_gap(self, start_ns: int, end_ns: int) -> bool:
        if end_ns - start_ns <= self._max_step_ns:
            return False
        # The texts differ in their numbers: the newest of the stream that is named most often.
        reasons = [why for at_ns, why in self._reasons if start_ns < at_ns <= end_ns]
        streams = Counter(why.split(":")[0] for why in reasons)
        why = f"{self._reference}: no {self._word}"
        if reasons:
            worst = streams.most_common(1)[0][0]
            why = next(why for why in reversed(reasons) if why.split(":")[0] == worst)
        self.report.gaps.append(Gap(start_ns, end_ns, why))
        return True

    def _blame(self, at_ns: int, why: str) -> None:
        self._reasons.append((at_ns, why))
        while self._reasons[0][0] < at_ns - _REASONS_S * NANO:
            self._reasons.popleft()

    def _finish(self) -> None:
        frames, report = self._frames, self.report
        frames.close()
        report.images, report.incomplete = frames.images, frames.incomplete
        report.refused += frames.refused
        first_ns, last_ns, count = self._stamps or (0, 0, 0)
        if last_ns > first_ns:
            report.camera_hz = (count - 1) * NANO / (last_ns - first_ns)
        if why := frames.unusable():
            raise BagError(f"bag {self._bag.path}: {why}")
