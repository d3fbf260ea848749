"""Success and failure frames of a LeRobotDataset, for the success classifier.

`next.success` has two values; a classifier's frames have three, for a frame on the brink teaches
nothing. They live in `rewact_extensions/frame_labels.json` inside the dataset:

    {"format": 1, "dataset": {"episodes": 24, "hash": "…"},
     "episodes": {"3": {"success": [[80, 116]], "fail": [[0, 76]]}}}

with frame ranges, end exclusive; frames of no range are not used. `dataset` says which episodes it
was made for (`data/dataset/made_for.py`). Where there is no such file, the
labels follow from the episodes' outcomes, `next.success`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros import strict_yaml
from rewact_ros.data.dataset.info import DatasetError, read_info
from rewact_ros.data.dataset.made_for import DATASET_KEY, made_for, require_made_for
from rewact_ros.files import replace_file
from rewact_ros.formats import FORMAT_KEY, FormatError, require_format
from rewact_ros.reward.keypoints import LabelError
from rewact_ros.text import reason

from .write import SUCCESS as SUCCESS_KEY
from .write import EpisodeLabels, open_labelled

Frames = NDArray[np.int8]
FAIL, SUCCESS, UNUSED = 0, 1, -1
_NAMES = {"success": SUCCESS, "fail": FAIL}
_FILE = Path("rewact_extensions") / "frame_labels.json"
_FORMAT = 1
_ANEW = "mend it, or write it anew by `rewact label-frames`"


def frame_labels_file(root: Path) -> Path:
    """Where a dataset's frame labels are kept."""
    return root / _FILE


def frames_from_outcome(labels: EpisodeLabels, margin: int) -> Frames:
    """Label an episode's frames by its outcome.

    Args:
        labels: the episode's; frames that are no success and of unknown reward stay unused.
        margin: frames left out before each change from failure to success: the task is as good as
            done there, and who labelled it may have been late.

    Returns:
        (N,) int8 of `SUCCESS`, `FAIL` and `UNUSED`.
    """
    frames = np.where(labels.success, SUCCESS, FAIL).astype(np.int8)
    frames[~labels.success & np.isnan(labels.reward)] = UNUSED
    for first in np.flatnonzero(np.diff(labels.success.astype(np.int8), prepend=0) == 1):
        brink = frames[max(first - margin, 0) : first]
        brink[brink == FAIL] = UNUSED
    return frames


def label_by_outcomes(root: Path, margin: int) -> dict[int, Frames]:
    """Label every episode's frames by `next.success`.

    Raises:
        LabelError: without `next.success`.
        DatasetError: not a dataset, or a damaged one.
    """
    dataset = open_labelled(root)
    if dataset.labels is None or SUCCESS_KEY not in read_info(root)["features"]:
        raise LabelError(
            f"{root}: has no {SUCCESS_KEY} with next.reward, so no outcomes are known; write them "
            "with `rewact label`, or mark frames with `rewact label-frames --keys`"
        )
    return {index: frames_from_outcome(own, margin) for index, own in dataset.labels.items()}


def read_frame_labels(root: Path, margin: int) -> dict[int, Frames]:
    """Frame labels of every episode: those of the file, else by outcomes.

    Episodes that the file does not name are unused.

    Raises:
        LabelError: a file of another format, made for other episodes or that does not fit the
            dataset; or neither file nor outcomes.
    """
    file = frame_labels_file(root)
    if not file.exists():
        return label_by_outcomes(root, margin)
    lengths = open_labelled(root).lengths
    frames: dict[int, Frames] = {
        index: np.full(length, UNUSED, np.int8) for index, length in lengths.items()
    }
    try:
        content = strict_yaml.load_json(file)
        if isinstance(content, dict) and "version" in content:  # the key's first name
            content.setdefault(FORMAT_KEY, content["version"])
        require_format(content, _FORMAT, _ANEW)
        require_made_for(root, content.get(DATASET_KEY))
        for key, own in content["episodes"].items():
            if not key.isdecimal() or int(key) not in frames:
                raise ValueError(f"episode {key}: the dataset has episodes 0 to {len(lengths) - 1}")
            _fill(frames[int(key)], own, key)
    except (FormatError, DatasetError) as error:
        raise LabelError(f"{file}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no key {error}" if isinstance(error, KeyError) else reason(error, file)
        raise LabelError(f"{file}: {what}; {_ANEW}") from error
    return frames


def write_frame_labels(root: Path, frames: Mapping[int, Frames]) -> Path:
    """Write the labels of all episodes in one step; unused episodes are left out.

    Raises:
        LabelError: not writable; the former file stays.
    """
    episodes = {
        str(index): {name: _ranges(own == value) for name, value in _NAMES.items()}
        for index, own in sorted(frames.items())
        if (own != UNUSED).any()
    }
    file = frame_labels_file(root)
    try:
        file.parent.mkdir(exist_ok=True)
        document = {FORMAT_KEY: _FORMAT, DATASET_KEY: made_for(root), "episodes": episodes}
        replace_file(file, json.dumps(document))
    except OSError as error:
        raise LabelError(f"{file}: {error.strerror}; the labels were not changed") from error
    return file


def _fill(frames: Frames, own: dict[str, Any], episode: str) -> None:
    unknown = own.keys() - _NAMES.keys()
    if unknown:
        raise ValueError(f"episode {episode}: expected success and fail, got {sorted(unknown)[0]}")
    for name, ranges in own.items():
        for first, last in ranges:
            if not 0 <= first < last <= len(frames):
                raise ValueError(
                    f"episode {episode}: {name}: [{first}, {last}] is no range of its "
                    f"{len(frames)} frames"
                )
            if (frames[first:last] != UNUSED).any():
                raise ValueError(f"episode {episode}: a frame in [{first}, {last}] is given twice")
            frames[first:last] = _NAMES[name]


def _ranges(chosen: NDArray[np.bool_]) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).tolist()
