"""How a run goes, read from its transitions alone: the same figures in process and over topics."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .transitions import Transition

RECENT = 20  # episodes that running rates are taken over: one more success is 5 %
_TREND = 60  # episodes that an extrapolation looks back on, at least RECENT: older ones mislead it
_SURE = 2.0  # standard errors, 95 %, that a trend must differ from none


@dataclass(frozen=True)
class EpisodeFigures:
    """One episode that has ended.

    Attributes:
        minute: of robot time when it ended.
        success: the verdict.
        alone: success without a human.
        interventions: turns of a human.
        human_share: of its steps.
        duration_s: of its steps; the time in which the robot held does not count.
        value: discounted sum of the verified reward.
    """

    minute: float
    success: bool
    alone: bool
    interventions: int
    human_share: float
    duration_s: float
    value: float


class RunFigures:
    """Collects transitions in the order in which they happened.

    An episode is over at its verdict. One that called for help in vain has none: it is over when
    the next one begins. One that a kill cut short does not count.

    Args:
        dt_s: duration of a robot step.
        discount: gamma per step, of the return.
        target: success rate without a human that the run aims at.
    """

    def __init__(self, dt_s: float, discount: float, target: float) -> None:
        self._dt_s, self._discount, self._target = dt_s, discount, target
        self._open: list[Transition] = []
        self._steps = 0
        self._ended: deque[EpisodeFigures] = deque(maxlen=_TREND)
        self.episodes = 0

    def add(self, transition: Transition) -> bool:
        """Take a transition; returns whether its episode's verdict came with it."""
        if self._open and self._open[-1].episode != transition.episode:
            self._close()
        self._open.append(_without_frames(transition))
        self._steps += len(transition)
        verdict = transition.truncated or transition.success
        if verdict:
            self._close()
        return verdict

    def now(self) -> dict[str, float]:
        """Figures over the newest episodes; rates only where one has ended."""
        figures = {
            "robot_min": self._steps * self._dt_s / 60,
            "episodes": float(self.episodes),
            "minutes_to_target": minutes_to_target(list(self._ended), self._target),
        }
        recent = list(self._ended)[-RECENT:]
        if recent:
            steps = sum(e.duration_s for e in recent)
            figures |= {
                "success": _mean([e.success for e in recent]),
                "success_alone": _mean([e.alone for e in recent]),
                "interventions": _mean([e.interventions for e in recent]),
                "human_share": sum(e.human_share * e.duration_s for e in recent) / steps,
                "return": _mean([e.value for e in recent]),
                "duration_s": recent[-1].duration_s,
            }
        return figures

    def _close(self) -> None:
        turns, self._open = self._open, []
        if not turns[-1].ended:
            return
        steps = sum(len(t) for t in turns)
        human = [t.human for t in turns]
        success = turns[-1].success
        begins = [now and not before for before, now in zip([False, *human], human, strict=False)]
        self.episodes += 1
        self._ended.append(
            EpisodeFigures(
                minute=self._steps * self._dt_s / 60,
                success=success,
                alone=success and not any(human),
                interventions=sum(begins),
                human_share=sum(len(t) for t in turns if t.human) / steps,
                duration_s=steps * self._dt_s,
                value=sum(
                    self._discount ** (t.first + k) * float(reward)
                    for t in turns
                    for k, reward in enumerate(t.reward)
                ),
            )
        )


def minutes_to_target(episodes: Sequence[EpisodeFigures], target: float) -> float:
    """Robot minutes until unaided success would reach ``target``, by a straight line.

    Returns:
        0 where the newest ``RECENT`` episodes are there; NaN, unknown, with fewer of them, or where
        the trend cannot be told from none.
    """
    if len(episodes) < RECENT:
        return float("nan")
    alone = np.array([e.alone for e in episodes], float)
    if alone[-RECENT:].mean() >= target:
        return 0.0
    minutes = np.array([e.minute for e in episodes])
    from_mean = minutes - minutes.mean()
    spread = float((from_mean**2).sum())
    if spread == 0:
        return float("nan")
    slope = float((from_mean * alone).sum()) / spread
    rest = alone - alone.mean() - slope * from_mean
    error = float(np.sqrt((rest**2).sum() / (len(rest) - 2) / spread))  # level and slope are fitted
    if slope <= _SURE * error:
        return float("nan")
    level = alone.mean() + slope * from_mean[-1]
    return max((target - float(level)) / slope, 0.0)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _without_frames(transition: Transition) -> Transition:
    """What the figures need of it: an episode's pictures would fill the memory."""
    return replace(transition, observations={})
