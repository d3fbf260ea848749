"""Demonstrations and interventions in one batch, as HG-DAgger has it (arXiv:1810.02890).

Of the interventions only frames in which a human was in control teach actions: what the policy did
before is what it should unlearn. All frames with a label teach the reward.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE
from numpy.typing import NDArray

from rewact_ros.data.dataset.info import DatasetError

from .batches import Pool
from .demonstrations import Demonstrations, load_demonstrations
from .represented import RepresentedActions
from .settings import TrainSettings
from .teaching import INTERVENTION
from .videos import Frames


def load_interventions(settings: TrainSettings, data: Demonstrations) -> list[Demonstrations]:
    """Open the datasets of ``settings.interventions``, whose labels may be NaN or missing.

    Args:
        settings: names them.
        data: the demonstrations that they are mixed with.

    Raises:
        DatasetError: as ``load_demonstrations``; no column ``intervention``; other features than
            those of the demonstrations.
    """
    loaded = []
    for folder in settings.interventions:
        further = load_demonstrations(
            Path(folder),
            action_frames="human",
            imitate_failures=settings.imitate_failures,
            labels_needed=False,
        )
        check_features(data, further)
        loaded.append(further)
    return loaded


def draw_interventions(
    settings: TrainSettings,
    data: Demonstrations,
    interventions: Sequence[Demonstrations],
    reward_head: str,
) -> list[Pool]:
    """Places of each batch for frames of the interventions; rows count as after ``join``.

    Human frames take the share, less what frames that teach the reward alone get of it (nothing
    where there are none, or no reward head).

    Raises:
        DatasetError: no human frame teaches actions.
    """
    places = round(settings.batch_size * settings.share)
    if not interventions or not places:
        return []
    teaches = np.concatenate([part.teaches for part in interventions])
    labelled = np.concatenate([np.isfinite(part.reward) for part in interventions])
    if not teaches.any():
        raise DatasetError(
            f"{', '.join(settings.interventions)}: no frame of a human teaches actions (column "
            f"{INTERVENTION}, in an episode that succeeds): expected at least one; record "
            "interventions, judge the episodes, or give --imitate-failures"
        )
    first = len(data.episode)
    rows = first + np.flatnonzero(labelled & ~teaches)
    few = round(places * settings.reward_share) if len(rows) and reward_head != "none" else 0
    pools = [Pool(first + np.flatnonzero(teaches), places - few), Pool(rows, few)]
    return [pool for pool in pools if pool.size]


def join(parts: Sequence[Demonstrations]) -> Demonstrations:
    """One after another, rows and episodes counted on; ``source`` is that of the first."""
    if len(parts) == 1:
        return parts[0]
    rows = np.cumsum([0, *(len(part.episode) for part in parts)])
    episodes = np.cumsum([0, *(part.source.meta.total_episodes for part in parts)])

    def whole(name: str, offsets: NDArray[np.int64] | None = None) -> NDArray[Any]:
        arrays = [getattr(part, name) for part in parts]
        if offsets is not None:
            arrays = [array + offsets[i] for i, array in enumerate(arrays)]
        return np.concatenate(arrays)

    return replace(
        parts[0],
        fingerprint=" ".join(part.fingerprint for part in parts),
        state=whole("state"),
        action=whole("action"),
        reward=whole("reward"),
        teaches=whole("teaches"),
        succeeds=whole("succeeds"),
        episode=whole("episode", episodes),
        start=whole("start", rows),
        end=whole("end", rows),
        represented=_represented(parts),
        frames={
            camera: _JoinedFrames([part.frames[camera] for part in parts], rows)
            for camera in parts[0].camera_shapes
        },
    )


def _represented(parts: Sequence[Demonstrations]) -> RepresentedActions | None:
    found = [part.represented for part in parts if part.represented is not None]
    return found[0].joined(found[1:]) if found else None


class _JoinedFrames:
    """Frames of several datasets, indexed by arrays of joined rows."""

    def __init__(self, frames: list[Frames], first_rows: NDArray[np.int64]) -> None:
        self._frames, self._first = frames, first_rows

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        owner = np.searchsorted(self._first, rows, side="right") - 1
        found = {i: self._frames[i][rows[owner == i] - self._first[i]] for i in np.unique(owner)}
        shape = next(iter(found.values())).shape[1:]
        images = np.empty((*rows.shape, *shape), np.uint8)
        for index, own in found.items():
            images[owner == index] = own
        return images


def check_features(data: Demonstrations, further: Demonstrations) -> None:
    """Compare rate, widths, joint order and cameras; raises DatasetError."""
    own, theirs = data.source.meta.features, further.source.meta.features
    pairs: list[tuple[str, Any, Any]] = [("fps", data.fps, further.fps)]
    for key in (OBS_STATE, ACTION):
        pairs += [(f"{key}.{f}", own[key].get(f), theirs[key].get(f)) for f in ("shape", "names")]
    cameras = data.camera_shapes, further.camera_shapes
    for key in sorted(cameras[0].keys() | cameras[1].keys()):
        expected, got = (shapes.get(key, "no such camera") for shapes in cameras)
        pairs.append((key, expected, got))
    for name, expected, got in pairs:
        # Tuples or lists, as the dataset was just written or read from disk.
        if json.dumps(expected) != json.dumps(got):
            raise DatasetError(
                f"{further.source.root}: {name}: expected {expected} as in {data.source.root}, got "
                f"{got}; mix datasets of one robot only"
            )
