"""What the world looked like in roll-outs that a calibration is made of."""

from collections.abc import Sequence

import numpy as np

from rewact_ros.learning.imitation.demonstrations import Demonstrations
from rewact_ros.learning.imitation.videos import VideoFrames
from rewact_ros.supervision.calibration import Calibration
from rewact_ros.supervision.camera_check import MOST_VIEWS, view_of
from rewact_ros.supervision.conformal import fits_novelty
from rewact_ros.supervision.drift import window_scores
from rewact_ros.supervision.episode_signals import CalibrationEpisode
from rewact_ros.supervision.signals import Signals
from rewact_ros.supervision.world import World, world_of


def seen_world(
    data: Demonstrations,
    chosen: Sequence[int],
    signals: Sequence[Sequence[Signals]],
    measured: Sequence[CalibrationEpisode],
    calibration: Calibration,
) -> World:
    """Scores of the roll-outs' first seconds, and what each camera showed before them.

    Args:
        data: that the roll-outs are of.
        chosen: which of its episodes they are.
        signals: of each, after every frame.
        measured: likewise, as the calibration took them.
        calibration: of the distance of features; what fitted it is not scored.
    """
    rest = np.flatnonzero(~fits_novelty(measured, calibration))
    scores = [drift_scores(signals[i], measured[i], calibration) for i in rest]
    some = np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_VIEWS), dtype=int)
    rows = np.array([int(data.rows([chosen[i]])[0]) for i in some])
    views = {}
    for camera, (_, _, width) in data.camera_shapes.items():
        frames = VideoFrames(data.source, camera, None)
        views[camera] = width, [view_of(frames[row.reshape(1)][0]) for row in rows]
    return world_of([one for one in scores if one], views)


def drift_scores(
    signals: Sequence[Signals], episode: CalibrationEpisode, calibration: Calibration
) -> dict[str, float]:
    """Scores of one roll-out as the live supervisor would have them; empty: it was too short."""
    curves = {name: [getattr(s, name) for s in signals] for name in ("progress", "entropy")}
    if calibration.distance is not None and episode.features is not None:
        curves["novelty"] = calibration.distance(episode.features).tolist()
    return window_scores([s.stamp_s for s in signals], curves)
