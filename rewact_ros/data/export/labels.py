"""What an exported episode teaches: progress, success and which actions are to be imitated."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.control.modes import Mode
from rewact_ros.reward.labels import progress_ramp

UNKNOWN_MODE = -1  # nobody published ControlStatus
# Modes in which somebody pursues the task; in the others the arm waits or is being reset.
DRIVEN = (Mode.POLICY, Mode.HUMAN, UNKNOWN_MODE)
_LAST_PERIODS = 2.0  # from an episode's last frame to its end, where nothing is missing


@dataclass(frozen=True)
class StepLabels:
    """Labels of an episode's n frames, each (n,).

    `reward` float32, NaN where unknown; `success`, `pad` (the action is not to be imitated) and
    `intervention` bool.
    """

    reward: NDArray[np.float32]
    success: NDArray[np.bool_]
    pad: NDArray[np.bool_]
    intervention: NDArray[np.bool_]


def label_steps(
    outcome: str,
    stamps_s: NDArray[np.float64],
    length_s: float,
    modes: NDArray[np.int64],
    rate_hz: float,
    failed_cap: float,
    attempt_s: float = 0.0,
) -> StepLabels:
    """Label the frames of one episode by how it ended, as `rewact label --ramp --failed` does.

    A success climbs from 0 at 5 % to 1 at 95 % of the time in which the arm was driven (it stands
    still while the episode is on hold) and is at 1 with its last frame, a failure climbs up to
    `failed_cap`; an episode that nobody judged has no label. A success teaches the actions of
    policy and human, a failure none, an episode that nobody judged the human's.

    Of a success in which a human took over from the policy, what the policy did before the last
    takeover was no way to the goal: it teaches nothing, and how far the task had come then is
    unknown. From that takeover on progress is what is not left to do at the pace of an undisturbed
    attempt.

    Args:
        outcome: `success`, `failure` or `unlabelled`.
        stamps_s: (n,) from the episode's start, rising; frames may be missing.
        length_s: of the episode.
        modes: (n,) of the command path.
        rate_hz: of the contract.
        failed_cap: highest label of a failure, 0 to below 1.
        attempt_s: duration of an undisturbed attempt; 0: not known, and then neither is the
            progress after a takeover, until the end.
    """
    human, driven = modes == Mode.HUMAN, np.isin(modes, DRIVEN)
    teaches = {"success": driven, "unlabelled": human}.get(outcome, np.zeros(len(modes), bool))
    reward: NDArray[np.float32] = np.full(len(modes), np.nan, np.float32)
    if outcome != "unlabelled":
        cap = 1.0 if outcome == "success" else failed_cap
        reward = (cap * _ramp(stamps_s, length_s, driven, rate_hz)).astype(np.float32)
    takeover = _last_takeover(modes)
    if outcome == "success" and takeover is not None:
        reward[:takeover] = np.nan
        teaches[:takeover] &= human[:takeover]
        reward[takeover:] = _rescue(stamps_s, length_s, driven, takeover, attempt_s)
    # Between the last frame and the verdict there may be time, but no frame to carry it.
    if outcome == "success" and length_s - stamps_s[-1] <= _LAST_PERIODS / rate_hz:
        reward[-1] = 1.0
    success = (reward >= 1.0) if outcome == "success" else np.zeros(len(modes), bool)
    return StepLabels(reward, success, ~teaches, human)


def _last_takeover(modes: NDArray[np.int64]) -> int | None:
    """The frame at which a human last took over from a policy that had begun."""
    human = modes == Mode.HUMAN
    begins = human & ~np.concatenate([[False], human[:-1]])
    found = np.flatnonzero(begins & np.logical_or.accumulate(modes == Mode.POLICY))
    return int(found[-1]) if len(found) else None


def _rescue(
    stamps_s: NDArray[np.float64],
    length_s: float,
    driven: NDArray[np.bool_],
    takeover: int,
    attempt_s: float,
) -> NDArray[np.float32]:
    """Progress from a takeover on, by what was left to do; it is done at 95 % of the rest."""
    passed_s, total_s = _driven_time(stamps_s, length_s, driven)
    passed_s = passed_s[takeover:]
    to_go_s = np.maximum(passed_s[0] + 0.95 * (total_s - passed_s[0]) - passed_s, 0)
    if attempt_s:
        return np.clip(1 - to_go_s / attempt_s, 0, 1).astype(np.float32)
    return np.where(to_go_s > 0, np.nan, 1).astype(np.float32)


def _ramp(
    stamps_s: NDArray[np.float64], length_s: float, driven: NDArray[np.bool_], rate_hz: float
) -> NDArray[np.float64]:
    """Progress by the time that the arm was driven."""
    passed_s, total_s = _driven_time(stamps_s, length_s, driven)
    frames = max(round(total_s * rate_hz), 1) + 1
    curve = progress_ramp(frames).astype(np.float64)
    return np.interp(passed_s * rate_hz, np.arange(frames), curve)


def _driven_time(
    stamps_s: NDArray[np.float64], length_s: float, driven: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """How long the arm was driven before each frame (n,), and in all."""
    passed_s = np.cumsum(np.diff(stamps_s, prepend=0.0) * driven)
    return passed_s, float(passed_s[-1] + (length_s - stamps_s[-1]) * driven[-1])
