"""Is a policy's reward a judge: its scores of episodes beside those of the joints alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rewact_ros.reward.baselines import ProprioceptionBaseline
from rewact_ros.reward.judge_check import JudgeCheck, check_judge, horizon
from rewact_ros.reward.labels import task_progress
from rewact_ros.reward.metrics import dwell_score
from rewact_ros.supervision.signals import SignalSettings

from .reward import FloatArray, filtered

_FOLDS = 2


def check_progress(
    progress: Sequence[FloatArray],
    succeeds: Sequence[bool],
    rate_hz: float,
    states: Sequence[NDArray[np.float32]] | None = None,
    done: Sequence[int | None] | None = None,
) -> JudgeCheck:
    """Tell whether predicted progress is a judge.

    Args:
        progress: (N,) of each episode, N frames.
        succeeds: of each episode.
        rate_hz: frames per second.
        states: (N, S) of each episode; None: the joints alone are not compared.
        done: of each episode the first frame of success, None of a failure; goes with `states`.
    """
    outcomes = np.array(succeeds, bool)
    limit = horizon([len(curve) for curve in progress], outcomes)
    scores = np.array([_score(curve, limit, rate_hz) for curve in progress])
    joints = None
    if states is not None and done is not None:
        joints = joints_scores(states, done, limit, rate_hz)
    return check_judge(scores, outcomes, joints)


def check_rewards(
    rewards: Sequence[Sequence[float | None]], succeeds: Sequence[bool], rate_hz: float
) -> JudgeCheck | None:
    """As ``check_progress``, of rewards at every inference; None where none was predicted."""
    curves = [np.array([r for r in episode if r is not None]) for episode in rewards]
    if not all(len(curve) for curve in curves):
        return None
    return check_progress(curves, succeeds, rate_hz)


def joints_scores(
    states: Sequence[NDArray[np.float32]],
    done: Sequence[int | None],
    limit: int | None,
    rate_hz: float,
) -> FloatArray | None:
    """Scores (E,) by a network that learned progress from the joints of successes alone.

    It is what a reward becomes that was trained on demonstrations and does not look. Each success
    is scored by the network of the other fold, a failure by both. None: too few successes.

    Args:
        states: (N, S) of each episode.
        done: of each episode the first frame of success, None of a failure.
        limit: frames that count.
        rate_hz: frames per second.
    """
    successes = [i for i, frame in enumerate(done) if frame is not None]
    folds = [successes[k::_FOLDS] for k in range(_FOLDS)]
    if not all(folds):
        return None
    networks = [_learn(states, done, fold) for fold in folds]
    scores = []
    for index, state in enumerate(states):
        others = [n for n, fold in zip(networks, folds, strict=True) if index not in fold]
        found = [_score(network.predict(state), limit, rate_hz) for network in others]
        scores.append(float(np.mean(found)))
    return np.array(scores)


def _learn(
    states: Sequence[NDArray[np.float32]], done: Sequence[int | None], episodes: Sequence[int]
) -> ProprioceptionBaseline:
    """Fit on some successes, whose progress is a ramp in time up to the success."""
    labels = []
    for index in episodes:
        frames, frame = len(states[index]), done[index] or 0
        labels.append(task_progress(frames, frames, success_frame=frame))
    return ProprioceptionBaseline([states[i] for i in episodes], labels, seeds=(0,), steps=500)


def _score(progress: FloatArray, limit: int | None, rate_hz: float) -> float:
    """Highest level that filtered progress holds, as the supervisor demands it of a success."""
    smooth = filtered(np.arange(len(progress)) / rate_hz, progress)[:limit]
    return dwell_score(smooth, SignalSettings().window)
