"""Episodes in a Gymnasium environment as a LeRobotDataset, with no more than was said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.episodes.dataset import LABELS, create_dataset, whole_folder
from rewact_ros.policy.checkpoint import LoadedPolicy

_FURTHER = {"predicted_reward": {"dtype": "float32", "shape": (1,), "names": None}}


@dataclass(frozen=True)
class EnvFrame:
    """What the policy saw and did.

    Attributes:
        inputs: by feature; images (H, W, 3) uint8.
        action: (A,) in the policy's units.
        reward: that it predicted, None without a head.
        success: the environment has said it.
    """

    inputs: dict[str, NDArray[Any]]
    action: NDArray[np.float32]
    reward: float | None
    success: bool


@contextmanager
def recording(
    loaded: LoadedPolicy, out: Path, rate_hz: float, text: str
) -> Iterator[Callable[[list[EnvFrame], bool | None], None]]:
    """Give what adds an episode and its outcome; the folder appears at the end.

    ``next.reward`` is NaN, unknown, for progress is not told; ``next.success`` is what the
    environment said; no frame teaches the action (``demo_is_pad``): these are roll-outs.

    Raises:
        DemosError: the folder exists.
    """
    with (
        whole_folder(out) as partial,
        create_dataset(partial, round(rate_hz), _features(loaded), "") as dataset,
    ):

        def add(frames: list[EnvFrame], success: bool | None) -> None:
            for k, frame in enumerate(frames):
                last = k == len(frames) - 1
                dataset.add_frame(
                    {key: np.asarray(value) for key, value in _as_trained(loaded, frame).items()}
                    | {
                        "task": text,
                        "action": frame.action,
                        "next.reward": np.array([np.nan], np.float32),
                        "next.done": np.array([last]),
                        "next.success": np.array([frame.success or (last and bool(success))]),
                        "demo_is_pad": np.array([True]),
                        "predicted_reward": np.array(
                            [np.nan if frame.reward is None else frame.reward], np.float32
                        ),
                    }
                )
            dataset.save_episode()

        yield add


def _as_trained(loaded: LoadedPolicy, frame: EnvFrame) -> dict[str, NDArray[Any]]:
    images = loaded.config.image_features
    return {
        key: value if key in images else value.astype(np.float32)
        for key, value in frame.inputs.items()
    }


def _features(loaded: LoadedPolicy) -> dict[str, dict[str, Any]]:
    config = loaded.config
    features: dict[str, dict[str, Any]] = {}
    for key, feature in config.input_features.items():
        if key in config.image_features:
            channels, height, width = feature.shape
            names = ["height", "width", "channels"]
            shape = (height, width, channels)
            features[key] = {"dtype": "video", "shape": shape, "names": names}
        else:
            features[key] = {"dtype": "float32", "shape": tuple(feature.shape), "names": None}
    action = config.action_feature
    assert action is not None  # a loader refuses a policy without
    features["action"] = {"dtype": "float32", "shape": tuple(action.shape), "names": None}
    return features | LABELS | _FURTHER
