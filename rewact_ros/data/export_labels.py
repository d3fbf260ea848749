"""What an exported episode teaches: progress, success and which actions are to be imitated."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.control.modes import Mode
from rewact_ros.data.export_steps import UNKNOWN_MODE
from rewact_ros.reward.labels import progress_ramp

# Modes in which somebody pursues the task; in the others the arm waits or is being reset.
DRIVEN = (Mode.POLICY, Mode.HUMAN, UNKNOWN_MODE)


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
) -> StepLabels:
    """Label the frames of one episode by how it ended, as `rewact label --ramp --failed` does.

    A success climbs from 0 at 5 % to 1 at 95 % of the time in which the arm was driven (it stands
    still while the episode is on hold), a failure up to `failed_cap`; an episode that nobody
    judged has no label. A success teaches the actions of policy and human, a failure none, an
    episode that nobody judged the human's.

    Args:
        outcome: `success`, `failure` or `unlabelled`.
        stamps_s: (n,) from the episode's start, rising; frames may be missing.
        length_s: of the episode.
        modes: (n,) of the command path.
        rate_hz: of the contract.
        failed_cap: highest label of a failure, 0 to below 1.
    """
    human, driven = modes == Mode.HUMAN, np.isin(modes, DRIVEN)
    teaches = {"success": driven, "unlabelled": human}.get(outcome, np.zeros(len(modes), bool))
    reward = np.full(len(modes), np.nan, np.float32)
    if outcome != "unlabelled":
        cap = 1.0 if outcome == "success" else failed_cap
        reward = (cap * _ramp(stamps_s, length_s, driven, rate_hz)).astype(np.float32)
    success = (reward >= 1.0) if outcome == "success" else np.zeros(len(modes), bool)
    return StepLabels(reward, success, ~teaches, human)


def _ramp(
    stamps_s: NDArray[np.float64], length_s: float, driven: NDArray[np.bool_], rate_hz: float
) -> NDArray[np.float64]:
    """Progress by the time that the arm was driven: before each frame, and after the last."""
    passed_s = np.cumsum(np.diff(stamps_s, prepend=0.0) * driven)
    total_s = passed_s[-1] + (length_s - stamps_s[-1]) * driven[-1]
    frames = max(round(total_s * rate_hz), 1) + 1
    curve = progress_ramp(frames).astype(np.float64)
    return np.interp(passed_s * rate_hz, np.arange(frames), curve)
