"""Simulated labs whose people judge as people do; for `calibration`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from supervisor_rollouts import Recorded

from rewact_ros.sim.timing import RATE_HZ
from rewact_ros.supervision.alarms import calibrated
from rewact_ros.supervision.calibration import (
    Basis,
    Calibration,
    CalibrationError,
    CalibrationSettings,
)
from rewact_ros.supervision.completion import completion_score, largest
from rewact_ros.supervision.conformal import calibrate, suspects
from rewact_ros.supervision.episode_signals import CalibrationEpisode, Cut
from rewact_ros.supervision.signals import COMPLETIONS, SignalSettings

FAR_S = 0.5  # a completion that is no earlier than the reaction errs is hardly an error
LIMIT = 1 << 30  # frames: the recordings end themselves
_STRETCH = 0.1  # standard deviation of the logarithm of an episode's pace


@dataclass(frozen=True)
class Condition:
    """How people judge, and what is done about it.

    Attributes:
        wrong: share of verdicts that are the other way round.
        lenient: share of failures, further, that are called a success.
        reaction_s: a key comes so much early or late at most, evenly.
        verdict_error: as `rewact calibrate --verdict-error`.
        early_s: so much more is subtracted from the key press.
        second_look: somebody looks again at what the command names, as often wrong, and tells the
            moment of a success.
        beta: instead of the usual one.
    """

    wrong: float = 0.0
    lenient: float = 0.0
    reaction_s: float = 0.0
    verdict_error: float = 0.0
    early_s: float = 0.0
    beta: float = 0.0
    second_look: bool = False

    def __str__(self) -> str:
        parts = [f"{self.wrong:.0%} wrong verdicts, keys ±{self.reaction_s:g} s"]
        parts += [f"{self.lenient:.0%} of failures called a success"] if self.lenient else []
        parts += [f"--verdict-error {self.verdict_error:g}"] if self.verdict_error else []
        parts += [f"--reaction-s {self.early_s:g} more"] if self.early_s else []
        parts += [f"--beta {self.beta:g}"] if self.beta else []
        parts += ["a second look"] if self.second_look else []
        return ", ".join(parts)


NOISY = Condition(wrong=0.05, reaction_s=0.5)
CONDITIONS = {
    "no noise": Condition(),
    "wrong verdicts": Condition(wrong=0.05),
    "reaction": Condition(reaction_s=0.5),
    "both": NOISY,
    # A quarter of the episodes fail: of 5 % of these people say that they succeeded.
    "both, verdict error": replace(NOISY, verdict_error=0.0125),
    "wrong verdicts, second look": Condition(wrong=0.05, second_look=True),
    "both, second look": replace(NOISY, second_look=True),
    "both, earlier": replace(NOISY, early_s=0.5),
    "both, earlier, second look": replace(NOISY, early_s=0.5, second_look=True),
    "both, beta 0.1": replace(NOISY, beta=0.1),
    "lenient people": Condition(lenient=0.2, beta=0.1),
    "lenient people, verdict error": Condition(lenient=0.2, beta=0.1, verdict_error=0.05),
}


@dataclass(frozen=True)
class Pool:
    """Episodes and what is true of them.

    Attributes:
        episodes: (E,) with their true success.
        scores, far: by rule, (E,) largest score before the success, and up to `FAR_S` before it.
        seen: by rule, (E,) largest score up to ``verdict_s`` after the success.
        alarms: by name, likewise.
        succeeds: (E,).
    """

    episodes: list[CalibrationEpisode]
    scores: dict[str, NDArray[np.float64]]
    far: dict[str, NDArray[np.float64]]
    seen: dict[str, NDArray[np.float64]]
    alarms: dict[str, NDArray[np.float64]]
    succeeds: NDArray[np.bool_]

    @classmethod
    def of(cls, episodes: Sequence[CalibrationEpisode], verdict_s: float) -> "Pool":
        """Take the largest scores once."""
        after, far = round(verdict_s * RATE_HZ) + 1, round(FAR_S * RATE_HZ)
        ends = [len(e.held) if e.success is None else e.success + after for e in episodes]
        early = [
            e if e.success is None else replace(e, success=max(e.success - far, 0))
            for e in episodes
        ]
        pairs = list(zip(episodes, ends, strict=True))
        return cls(
            list(episodes),
            {r: np.array([completion_score(e, LIMIT, r) for e in episodes]) for r in COMPLETIONS},
            {r: np.array([completion_score(e, LIMIT, r) for e in early]) for r in COMPLETIONS},
            {r: np.array([largest(e.known(r)[:n]) for e, n in pairs]) for r in COMPLETIONS},
            {
                a.name: np.array([largest(e.scores[a.name][:n]) for e, n in pairs])
                for a in calibrated(features=False)
            },
            np.array([e.success is not None for e in episodes]),
        )


def realised(pool: Pool, index: NDArray[np.intp], made: Calibration) -> dict[str, float]:
    """Rates that thresholds truly have on some of the episodes."""
    rule, limit = made.signals.completion, made.completion.threshold
    good = index[pool.succeeds[index]]
    alarmed = np.zeros(len(good), bool)
    for name, bound in made.alarms.items():
        alarmed |= pool.alarms[name][good] > bound.threshold
    return {
        "false_completions": float(np.mean(pool.scores[rule][index] > limit)),
        "far_false_completions": float(np.mean(pool.far[rule][index] > limit)),
        "false_alarms": float(np.mean(alarmed)),
        "found": float(np.mean(pool.seen[rule][good] > limit)),
    }


class Lab:
    """Judges episodes by its people, and calibrates on what they said.

    Attributes:
        settings: what it asks of a calibration.
    """

    def __init__(self, condition: Condition, rates: CalibrationSettings) -> None:
        self._condition = condition
        self.settings = replace(
            rates, verdict_error=condition.verdict_error, beta=condition.beta or rates.beta
        )

    def calibrate(
        self, episodes: list[CalibrationEpisode], basis: Basis, rng: np.random.Generator
    ) -> Calibration | None:
        """Thresholds by what its people said; None: they support no bound."""
        judged = [self._judged(episode, rng) for episode in episodes]
        looked: set[str] = set()
        while True:
            try:
                made = calibrate(judged, SignalSettings(), basis, self.settings)
            except CalibrationError:
                return None
            again = set(suspects(judged, made)) - looked if self._condition.second_look else set()
            if not again:
                return made
            looked |= again
            pairs = zip(episodes, judged, strict=True)
            judged = [self._again(e, rng) if e.name in again else j for e, j in pairs]

    def _again(self, episode: CalibrationEpisode, rng: np.random.Generator) -> CalibrationEpisode:
        """By a person who looks at the recording, and tells the moment of a success."""
        looker = replace(self._condition, reaction_s=0.0, early_s=0.0)
        return Lab(looker, self.settings)._judged(episode, rng)

    def _judged(self, episode: CalibrationEpisode, rng: np.random.Generator) -> CalibrationEpisode:
        """By a person: a success by its key, a failure at the time-out."""
        condition, frames = self._condition, len(episode.held)
        lenient = condition.lenient if episode.success is None else 0.0
        wrong = rng.uniform() < condition.wrong + lenient
        if (episode.success is None) is not wrong:
            return replace(episode, success=None, cut=Cut.WORK)
        pressed = rng.uniform(0.1, 1.0) * frames if episode.success is None else episode.success
        error_s = rng.uniform(-1, 1) * condition.reaction_s - condition.early_s
        at = int(np.clip(round(pressed + error_s * RATE_HZ), 0, frames - 1))
        return replace(episode, success=at, cut=Cut.WORK)


def pool_of(
    recorded: list[Recorded],
    count: int,
    failing: float,
    rng: np.random.Generator,
    signals_of: Callable[[Recorded], CalibrationEpisode],
) -> Pool:
    """Episodes like the recorded ones: each at another pace, with levels a little higher or lower.

    A smoothed bootstrap: the shift, in the logit of the level, has the bandwidth that Silverman's
    rule gives for the recorded episodes' largest levels before their success.
    """
    sides = [[e for e in recorded if e.success.any() == good] for good in (False, True)]
    widths = [_bandwidth(side) for side in sides]
    episodes = []
    for number in range(count):
        good = int(rng.uniform() >= failing)
        base = sides[good][rng.integers(len(sides[good]))]
        shift, pace = rng.normal(0, widths[good]), float(np.exp(rng.normal(0, _STRETCH)))
        episodes.append(signals_of(_like(base, number, shift, pace if good else 1.0)))
    return Pool.of(episodes, CalibrationSettings().verdict_s)


def _bandwidth(episodes: list[Recorded]) -> float:
    largest_levels = np.array([e.q10[: _end(e)].max() for e in episodes])
    return float(0.9 * _logit(largest_levels).std() * len(episodes) ** -0.2)


def _end(episode: Recorded) -> int:
    succeeded = np.flatnonzero(episode.success)
    return max(int(succeeded[0]), 1) if len(succeeded) else len(episode.success)


def _like(base: Recorded, seed: int, shift: float, pace: float) -> Recorded:
    """A roll-out at another pace and level; a failure keeps its pace, and ends at the time-out."""
    frames = np.arange(round(len(base.success) * pace)) / pace
    own = np.arange(len(base.success))

    def moved(values: NDArray[np.float32]) -> NDArray[np.float32]:
        there = np.interp(frames, own, values)
        return (1 / (1 + np.exp(-_logit(there) - shift))).astype(np.float32)

    success = base.success[np.minimum(frames.astype(int), len(own) - 1)]
    return replace(base, seed=seed, mean=moved(base.mean), q10=moved(base.q10), success=success)


def _logit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    inside = np.clip(values.astype(float), 1e-3, 1 - 1e-3)
    return np.log(inside / (1 - inside))


def made_up(seed: int) -> Recorded:
    """A roll-out whose level climbs to its success, or to some height: for `--quick`."""
    rng = np.random.default_rng(seed)
    success = int(rng.integers(60, 140)) if seed % 4 else None
    frame = np.arange(400 if success is None else success + 60)
    top = rng.uniform(0.2, 0.8) if success is None else rng.uniform(0.93, 0.99)
    mean = top * np.clip(frame / (success or 400), 0, 1) + rng.normal(0, 0.005, len(frame))
    level = np.clip(mean, 0, 1).astype(np.float32)
    nothing = np.zeros(len(frame), np.int8)
    return Recorded(
        seed=seed,
        mean=level,
        q10=level,
        entropy=np.zeros(len(frame), np.float32),
        features=np.zeros((len(frame), 0), np.float32),
        disagreement=np.zeros(len(frame), np.float32),
        success=frame >= (len(frame) if success is None else success),
        stage=nothing,
        failure=nothing,
        closed_s=2.0,
    )
