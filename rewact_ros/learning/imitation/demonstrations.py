"""A LeRobotDataset as NumPy tables and cached frames, from which a batch costs milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION, OBS_STATE, REWARD
from numpy.typing import NDArray
from torch import Tensor

from rewact_ros.contract import image_shape
from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.data.dataset.reader import open_dataset
from rewact_ros.policy.images import unit_images
from rewact_ros.policy.modeling_rewact import ACTION_IS_PAD, DEMO_IS_PAD, LABEL_SLACK

from .frames import dataset_fingerprint, open_frames
from .represented import RepresentedActions
from .teaching import (
    INTERVENTION,
    SUCCESS,
    imitated,
    progress_labels,
    succeeding,
)
from .videos import Frames, VideoFrames

_FEW_FRAMES = 5  # a shorter episode may rise from 0 to 1 in one step without being a success flag
# Targets so near count as the same angle; this share of frames that are a whole turn apart is told.
_SAME_RAD, _FEW_TURNED = 0.1, 0.01


@dataclass
class Demonstrations:
    """All frames of a dataset; row i is frame i.

    Attributes:
        fingerprint: identifies the dataset's content.
        fps: frames per second.
        state: (N, S) float32, contract units.
        action: (N, A) float32, contract units.
        reward: (N,) float32 progress labels, NaN where unknown.
        teaches: (N,) bool, whether the frame's action is to be imitated (see ``imitated``).
        succeeds: (N,) bool, whether the frame's episode succeeds.
        episode: (N,) int64, episode of each row.
        start, end: (N,) int64, first row and row after the last of that row's episode.
        frames: camera key -> (N, H, W, 3) uint8, or what is indexed likewise; empty until
            ``decode`` or ``decode_on_demand``.
        camera_shapes: camera key -> (3, H, W) of the dataset's own images; empty: the robot has no
            camera, and the policy acts on the state alone.
        represented: the actions as the policy speaks of them; None: as the dataset has them.
    """

    source: LeRobotDataset
    fingerprint: str
    fps: int
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    teaches: NDArray[np.bool_]
    succeeds: NDArray[np.bool_]
    episode: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    frames: Mapping[str, Frames]
    camera_shapes: dict[str, tuple[int, int, int]]
    represented: RepresentedActions | None = None

    def decode(
        self,
        image_size: tuple[int, int] | None,
        episodes: list[int],
        cache: Path | None,
        progress: bool = True,
    ) -> None:
        """Fill ``frames`` of some episodes from the cache, decoding their videos if need be."""
        self.frames = open_frames(
            self.source, list(self.camera_shapes), image_size, episodes, cache, progress
        )

    def decode_on_demand(self, image_size: tuple[int, int] | None) -> None:
        """Let every batch decode the frames that it needs."""
        self.frames = {
            camera: VideoFrames(self.source, camera, image_size) for camera in self.camera_shapes
        }

    def rows(self, episodes: list[int]) -> NDArray[np.intp]:
        """Rows (M,) of the given episodes."""
        return np.flatnonzero(np.isin(self.episode, episodes))

    def input_features(self) -> dict[str, PolicyFeature]:
        """What a policy trained on this takes: state and cameras (the dataset's own sizes)."""
        features = {OBS_STATE: PolicyFeature(FeatureType.STATE, self.state.shape[1:])}
        for camera, shape in self.camera_shapes.items():
            features[camera] = PolicyFeature(FeatureType.VISUAL, shape)
        return features

    def output_features(self) -> dict[str, PolicyFeature]:
        """What a policy trained on this gives: the action."""
        width = self.action.shape[1:]
        if self.represented is not None:
            width = (self.represented.columns.width,)
        return {ACTION: PolicyFeature(FeatureType.ACTION, width)}

    def stats(
        self, rows: NDArray[np.integer], min_std: float, chunk: int = 1
    ) -> dict[str, dict[str, Tensor]]:
        """Normalisation statistics over ``rows``; a joint that hardly moves gets ``min_std``,
        so that its sensor noise is not blown up to unit variance.

        Of a representation they are those of its own numbers, over all steps of the chunks of
        ``chunk`` actions, as LeRobot's for relative actions.

        Raises:
            DatasetError: none of the rows teaches actions.
        """
        taught = rows[self.teaches[rows]]
        if not len(taught):
            raise DatasetError(
                f"{self.source.root}: none of the chosen frames teaches actions (columns "
                f"{DEMO_IS_PAD}, {SUCCESS}, {INTERVENTION}); choose other episodes or "
                "action_frames, or set imitate_failures"
            )
        if (own := self.represented) is not None:
            return {
                OBS_STATE: _stats(self.state[rows], min_std),
                ACTION: _stats(own.values(taught, self.end, chunk), min_std * own.floors),
            }
        return {
            key: _stats(table, min_std)
            for key, table in ((OBS_STATE, self.state[rows]), (ACTION, self.action[taught]))
        }

    def _actions(
        self, rows: NDArray[np.integer], steps: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """(B, n, A) of steps (B, n), or (B, n, C) as the policy speaks of them at rows (B,)."""
        if self.represented is None:
            return self.action[steps]
        return self.represented.chunks(rows, steps)

    def turned_joints(self, rows: NDArray[np.integer]) -> dict[int, float]:
        """Joint -> share of frames whose target others have a whole turn away.

        Of a joint in rad, that is the same angle; a policy learns what lies between the two.
        """
        shares = {}
        for joint, targets in enumerate(self.action[rows].T):
            ordered = np.sort(targets)
            partners = np.zeros(len(targets), dtype=int)
            for turn in (-2 * np.pi, 2 * np.pi):
                near = [ordered.searchsorted(targets + turn + s) for s in (-_SAME_RAD, _SAME_RAD)]
                partners += near[1] - near[0]
            if (share := float((partners > 0).mean())) > _FEW_TURNED:
                shares[joint] = share
        return shares

    def require_labels(self, rows: NDArray[np.integer], low: float, high: float) -> None:
        """Look at all labels of ``rows`` before anything is learned or judged by them.

        Raises:
            DatasetError: a label outside ``low`` to ``high``, or none between them: a sign of
                success, which is no progress.
        """
        labels = self.reward[rows]
        outside = rows[(labels < low - LABEL_SLACK) | (labels > high + LABEL_SLACK)]
        if len(outside):
            raise DatasetError(
                f"{self.source.root}: {REWARD}: expected {low:g} to {high:g}, or NaN where unknown,"
                f" got {self.reward[outside[0]]:g} in {self._place(outside[0])} (and in "
                f"{len(outside) - 1} further frames); label it anew (`rewact label`)"
            )
        jumps = rows[:-1][(labels[:-1] == low) & (labels[1:] == high) & (np.diff(rows) == 1)]
        jumps = jumps[self.episode[jumps] == self.episode[jumps + 1]]
        long = self.end[jumps] - self.start[jumps] >= _FEW_FRAMES
        if long.any() and np.isin(labels[~np.isnan(labels)], (low, high)).all():
            raise DatasetError(
                f"{self.source.root}: {REWARD}: expected progress that rises, got {low:g} and "
                f"{high:g} only, the first jump in {self._place(jumps[0] + 1)}: a sign of success; "
                "write progress by `rewact label` (--ramp by time, --failed, or --keypoints), or "
                "train without (--policy reward_head=none)"
            )

    def _place(self, row: int) -> str:
        return f"episode {self.episode[row]} frame {row - self.start[row]}"

    def batch(
        self,
        rows: NDArray[np.integer],
        chunk: int,
        observations: int = 1,
        backwards: NDArray[np.bool_] | None = None,
    ) -> dict[str, Tensor]:
        """Assemble a raw batch: observation at each row, action chunk from there, labels.

        ``action_is_pad`` (B, chunk) marks steps past the episode's end, steps whose own frame does
        not teach actions, and every step of a chunk that starts at such a frame.

        Args:
            rows: (B,).
            chunk: actions from each row on.
            observations: n; with n > 1 state and cameras get a second axis of n, oldest first, and
                the episode's first frame stands in for those before it, as in LeRobot's datasets.
            backwards: (B,) bool, samples whose past is their future played backwards (ReWiND,
                arXiv:2505.10911): progress falls, and their actions teach nothing.
        """
        steps = rows[:, None] + np.arange(chunk)
        past_end = steps >= self.end[rows, None]
        steps = np.minimum(steps, self.end[rows, None] - 1)
        is_pad = past_end | ~self.teaches[steps] | ~self.teaches[rows, None]
        seen = rows
        offsets: NDArray[np.integer] = np.arange(1 - observations, 1)
        if backwards is not None:
            is_pad = is_pad | backwards[:, None]
            offsets = np.where(backwards[:, None], -offsets, offsets)
        if observations > 1:
            seen = np.clip(
                rows[:, None] + offsets, self.start[rows, None], self.end[rows, None] - 1
            )
        batch = {
            OBS_STATE: torch.from_numpy(self.state[seen]),
            ACTION: torch.from_numpy(self._actions(rows, steps)),
            ACTION_IS_PAD: torch.from_numpy(is_pad),
            REWARD: torch.from_numpy(self.reward[rows]),
        }
        for camera, frames in self.frames.items():
            images = torch.from_numpy(frames[seen])
            batch[camera] = unit_images(images)
        return batch


def load_demonstrations(
    root: Path,
    progress_ramp: bool = False,
    action_frames: str = "all",
    imitate_failures: bool = False,
    labels_needed: bool = True,
) -> Demonstrations:
    """Read a LeRobotDataset v3 from ``root`` without touching its videos.

    Args:
        root: the dataset's folder.
        progress_ramp: where the dataset has no ``next.reward``, label its successful episodes
            (``next.success`` anywhere in the episode; without that column, all) by a time ramp.
        action_frames: whose frames teach actions: ``all``, ``human`` (a human in control, column
            ``intervention``) or ``autonomous``; all of them teach the reward.
        imitate_failures: let episodes without any ``next.success`` teach actions too.
        labels_needed: whether a dataset without labels is an error.

    Raises:
        DatasetError: not a dataset; a column missing; no labels; values not finite.
    """
    source = open_dataset(root)
    meta = source.meta
    table = source.hf_dataset.with_format("numpy")
    for key in (OBS_STATE, ACTION):
        if key not in meta.features:
            raise DatasetError(f"{root}: has no column {key}; it has {sorted(meta.features)}")

    episode = np.asarray(table["episode_index"]).reshape(-1).astype(np.int64)
    bounds = {
        e["episode_index"]: (e["dataset_from_index"], e["dataset_to_index"]) for e in meta.episodes
    }
    start, end = (np.array([bounds[e][side] for e in episode], np.int64) for side in (0, 1))

    def read(key: str) -> NDArray[Any]:
        return np.asarray(table[key]).reshape(len(episode), -1)

    def column(key: str) -> NDArray[Any] | None:
        return read(key) if key in meta.features else None

    data = Demonstrations(
        source=source,
        fingerprint=dataset_fingerprint(meta),
        fps=meta.fps,
        state=read(OBS_STATE).astype(np.float32),
        action=read(ACTION).astype(np.float32),
        reward=progress_labels(root, column, episode, progress_ramp, labels_needed),
        teaches=imitated(root, column, episode, action_frames, imitate_failures),
        succeeds=succeeding(column, episode),
        episode=episode,
        start=start,
        end=end,
        frames={},
        camera_shapes={k: _camera_shape(root, k, meta.features[k]) for k in meta.camera_keys},
    )
    for key, values in ((OBS_STATE, data.state), (ACTION, data.action)):
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        if len(bad):
            row = bad[0]
            raise DatasetError(
                f"{root}: {key} is not finite in {len(bad)} frames, the first is "
                f"episode {episode[row]} frame {row - start[row]}; mend the dataset, or remove "
                "the episode (lerobot-edit-dataset --operation.type=delete_episodes)"
            )
    return data


def split_episodes(
    episodes: list[int], val_episodes: list[int] | None, val_fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split by whole episodes into training and validation (at least one, if a fraction > 0)."""
    if val_episodes is None:
        count = int(np.ceil(len(episodes) * val_fraction)) if val_fraction else 0
        val_episodes = np.random.default_rng(seed).permutation(episodes)[:count].tolist()
    train = sorted(set(episodes) - set(val_episodes))
    if not train:
        raise DatasetError(
            "no training episodes are left after the validation split; lower val_fraction"
        )
    return train, sorted(val_episodes)


def _stats(values: NDArray[np.float32], min_std: float | NDArray[np.float64]) -> dict[str, Tensor]:
    exact = values.astype(np.float64)
    return {
        "mean": torch.from_numpy(exact.mean(0)).float(),
        "std": torch.from_numpy(np.maximum(exact.std(0), min_std)).float(),
        "min": torch.from_numpy(exact.min(0)).float(),
        "max": torch.from_numpy(exact.max(0)).float(),
    }


def _camera_shape(root: Path, key: str, feature: dict[str, Any]) -> tuple[int, int, int]:
    height, width, channels = image_shape(key, feature)
    if channels != 3:
        raise DatasetError(
            f"{root}: {key}: expected 3 channels (RGB), got {channels}; remove that feature "
            "(lerobot-edit-dataset --operation.type=remove_feature)"
        )
    return (channels, height, width)
