"""From alarms to action: warn, hold and ask for a human, abort. Pure; a fake clock tests it."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Step(IntEnum):
    """Rungs of the ladder."""

    NONE = 0
    WARN = 1
    HOLD = 2
    ABORT = 3


@dataclass(frozen=True)
class Ladder:
    """How one signal climbs while its alarm stands; infinite: it does not climb that far.

    Attributes:
        warn_s, hold_s, abort_s: how long the alarm must stand for each rung.
        holds: how often per episode this signal may ask for a human; the next time it aborts.
    """

    warn_s: float = 0.0
    hold_s: float = 1.0
    abort_s: float = math.inf
    holds: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.warn_s <= self.hold_s <= self.abort_s:
            raise ValueError(
                "warn_s, hold_s, abort_s: expected them in this order from 0 up, got "
                f"{self.warn_s:g}, {self.hold_s:g}, {self.abort_s:g}"
            )
        if self.holds < 0:
            raise ValueError(f"holds: expected 0 or more, got {self.holds}")

    @classmethod
    def parse(cls, text: str, holds: int = 3) -> "Ladder":
        """Read `warn 0, hold 1, abort 30`: seconds per rung; a rung left out is never climbed to.

        Raises:
            ValueError: another text, or rungs out of order.
        """
        rungs: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, seconds = part.partition(" ")
            try:
                rungs[name] = float(seconds)
            except ValueError:
                name = ""
            if name not in ("warn", "hold", "abort"):
                raise ValueError(
                    f"{text!r}: expected rungs such as 'warn 0, hold 1, abort 30', got {part!r}"
                )
        abort_s = rungs.get("abort", math.inf)
        hold_s = rungs.get("hold", abort_s)
        return cls(rungs.get("warn", hold_s), hold_s, abort_s, holds)

    def step(self, stands_s: float) -> Step:
        """The rung after an alarm has stood for so long."""
        rungs = ((self.abort_s, Step.ABORT), (self.hold_s, Step.HOLD), (self.warn_s, Step.WARN))
        return next((step for since, step in rungs if stands_s >= since), Step.NONE)


@dataclass(frozen=True)
class EscalationSettings:
    """The ladders and what a human may take.

    Attributes:
        ladders: signal -> its own; others have ``default``.
        default: for the rest.
        holds: budget of requests for a human per episode, all signals together.
        human_silence_s: nobody answers a request for so long: abort.
    """

    ladders: Mapping[str, Ladder] = field(default_factory=dict)
    default: Ladder = Ladder()
    holds: int = 5
    human_silence_s: float = 60.0

    def __post_init__(self) -> None:
        if self.holds < 0 or not self.human_silence_s > 0:
            raise ValueError(
                "holds, human_silence_s: expected 0 or more and more than 0, got "
                f"{self.holds} and {self.human_silence_s:g}"
            )


@dataclass(frozen=True)
class Response:
    """What to do now, on which signal's account and why in one line."""

    step: Step
    signal: str = ""
    reason: str = ""


class Escalation:
    """The ladder of one episode. HOLD stays until a human answers; ABORT stays."""

    def __init__(self, settings: EscalationSettings | None = None) -> None:
        self.settings = settings or EscalationSettings()
        self.decision = Response(Step.NONE)
        self.holds: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._asked_s = math.nan

    def step(self, now_s: float, alarms: Collection[str], human: bool) -> Response:
        """Advance to ``now_s``.

        Args:
            now_s: of a clock that never goes back.
            alarms: signals above their threshold.
            human: whether a human leads the robot now; that answers a request, and while it lasts
                no alarm counts.
        """
        if self.decision.step is Step.ABORT:
            return self.decision
        if human:
            self.answered()
        elif self.decision.step is Step.HOLD:
            if now_s - self._asked_s > self.settings.human_silence_s:
                silence = f"nobody answered for {self.settings.human_silence_s:g} s"
                self._decide(Step.ABORT, self.decision.signal, f"{self.decision.reason}, {silence}")
        else:
            self._climb(now_s, alarms)
        return self.decision

    def answered(self) -> None:
        """A human took over or let the policy go on: every alarm begins anew."""
        if self.decision.step is not Step.ABORT:
            self._since.clear()
            self.decision = Response(Step.NONE)

    def _climb(self, now_s: float, alarms: Collection[str]) -> None:
        self._since = {name: self._since.get(name, now_s) for name in alarms}
        stands = {name: now_s - since for name, since in self._since.items()}
        steps = {name: self._ladder(name).step(stood) for name, stood in stands.items()}
        if not steps:
            self.decision = Response(Step.NONE)
            return
        # The highest rung leads; of equal ones the alarm that has stood longest.
        name = max(steps, key=lambda n: (steps[n], stands[n]))
        step, reason = steps[name], f"{name} alarm for {stands[name]:.1f} s"
        if step is Step.HOLD:
            used = self.holds.get(name, 0)
            if used >= self._ladder(name).holds or self._asked() >= self.settings.holds:
                asked = f"asked {used} times for it, {self._asked()} in all"
                self._decide(Step.ABORT, name, f"{reason}, no request for a human left ({asked})")
                return
            self.holds[name], self._asked_s = used + 1, now_s
        self._decide(step, name, reason if step is not Step.NONE else "")

    def _decide(self, step: Step, signal: str, reason: str) -> None:
        self.decision = Response(step, signal, reason)

    def _ladder(self, name: str) -> Ladder:
        return self.settings.ladders.get(name, self.settings.default)

    def _asked(self) -> int:
        return sum(self.holds.values())
