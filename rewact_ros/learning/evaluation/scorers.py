"""Who scores recorded roll-outs for a calibration: whatever may judge (``judges.KINDS``)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lerobot.utils.constants import OBS_STATE
from numpy.typing import NDArray

from rewact_ros.learning.imitation.demonstrations import Demonstrations
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.reward.classifier import LoadedClassifier
from rewact_ros.reward.judges import load_judge
from rewact_ros.reward.lerobot_judge import RewardModelJudge
from rewact_ros.reward.lerobot_model import LoadedRewardModel
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.signals import PolicySample

_BATCH = 64  # frames at once: memory against speed, the signals are the same


class Scorer(Protocol):
    """What a calibration is made for.

    Attributes:
        path: its checkpoint.
        version: of all its weights.
        reward_hash: of what its score depends on.
        level: what completion is judged by, ``q10`` or ``mean``.
        features: whether it tells where an observation lies among others, for the novelty.
        contract: ``{"hash", "signature"}`` that it was trained under; None: any robot's with its
            cameras.
        cameras: that it looks at.
        image_size: (height, width) px that it resizes pictures to; None: as they come.
    """

    @property
    def path(self) -> Path: ...
    @property
    def version(self) -> str: ...
    @property
    def reward_hash(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def features(self) -> bool: ...
    @property
    def contract(self) -> dict[str, Any] | None: ...
    @property
    def cameras(self) -> tuple[str, ...]: ...
    @property
    def image_size(self) -> tuple[int, int] | None: ...

    def samples(self, data: Demonstrations, rows: NDArray[np.integer]) -> Iterator[PolicySample]:
        """What it would have published at each frame (N,) of an episode."""
        ...


class PolicyScorer:
    """A policy's own reward and features, with quantiles where its head has them.

    Raises:
        CalibrationError: the policy has no reward head.
    """

    features = True

    def __init__(self, loaded: LoadedPolicy) -> None:
        head = loaded.config.reward_head
        if head == "none":
            raise CalibrationError(
                f"{loaded.path}: reward_head is none: it predicts nothing to judge"
            )
        self.level = "q10" if head == "distributional" else "mean"
        self._loaded, self.path, self.version = loaded, loaded.path, loaded.version
        self.contract, self.image_size = loaded.contract, loaded.config.image_size
        self.cameras = tuple(loaded.config.image_features)

    @property
    def reward_hash(self) -> str:
        """Of all that the predicted reward depends on."""
        return self._loaded.reward_hash

    def samples(self, data: Demonstrations, rows: NDArray[np.integer]) -> Iterator[PolicySample]:
        """What the policy would have published at each frame of an episode."""
        keys = [OBS_STATE, *data.camera_shapes]
        for first in range(0, len(rows), _BATCH):
            batch = data.batch(rows[first : first + _BATCH], 1, self._loaded.config.n_obs_steps)
            estimate = self._loaded.predict({key: batch[key] for key in keys if key in batch})
            reward = estimate.reward
            assert reward is not None and estimate.features is not None  # it has a reward head
            mean, features = (
                column.float().cpu().numpy() for column in (reward.value, estimate.features)
            )
            quantiles, entropy = (
                None if column is None else column.float().cpu().numpy()
                for column in (reward.quantiles, reward.entropy)
            )
            for i in range(len(mean)):
                yield PolicySample(
                    stamp_s=(first + i) / data.fps,
                    mean=float(mean[i]),
                    q10=None if quantiles is None else float(quantiles[i, 0]),
                    entropy=None if entropy is None else float(entropy[i]),
                    features=features[i],
                )


class ClassifierScorer:
    """A success classifier's probability: no quantiles, no features, no robot of its own."""

    level, features = "mean", False
    contract: dict[str, Any] | None = None

    def __init__(self, classifier: LoadedClassifier) -> None:
        self._model, self.path, self.version = classifier.model, classifier.path, classifier.version
        self.reward_hash = classifier.version
        self.cameras, self.image_size = classifier.config.cameras, classifier.config.image_size

    @torch.inference_mode()
    def samples(self, data: Demonstrations, rows: NDArray[np.integer]) -> Iterator[PolicySample]:
        """Its probability at each frame of an episode.

        Raises:
            CalibrationError: the roll-outs lack one of its cameras.
        """
        _require_cameras(self, data, "classifier")
        for first in range(0, len(rows), _BATCH):
            batch = data.batch(rows[first : first + _BATCH], 1)
            pictures = torch.stack([batch[camera] for camera in self.cameras], dim=1)
            device = self._model.temperature.device
            for i, value in enumerate(self._model.predict(pictures.to(device)).cpu().tolist()):
                yield PolicySample(stamp_s=(first + i) / data.fps, mean=value)


class RewardModelScorer:
    """A reward model of LeRobot: what it would say live, frame by frame, by the same code."""

    level, features = "mean", False
    contract: dict[str, Any] | None = None
    image_size: tuple[int, int] | None = None

    def __init__(self, loaded: LoadedRewardModel) -> None:
        self._loaded, self.path, self.version = loaded, loaded.path, loaded.version
        self.reward_hash, self.cameras = loaded.reward_hash, loaded.cameras

    def samples(self, data: Demonstrations, rows: NDArray[np.integer]) -> Iterator[PolicySample]:
        """Its score at each frame of an episode, told that episode's task.

        Raises:
            CalibrationError: the roll-outs lack a camera or a text that it needs, or it fails.
        """
        root = data.source.root
        _require_cameras(self, data, "reward model")
        judge = RewardModelJudge(self._loaded, None, data.fps)
        judge.reset()
        if judge.needs_text:
            judge.instruction = task_text(data, int(rows[0]))
        for index, row in enumerate(rows):
            seen: dict[str, NDArray[Any]] = {key: data.frames[key][row] for key in self.cameras}
            stamp_s = index / data.fps
            try:
                found = judge.infer({**seen, OBS_STATE: data.state[row]}, stamp_s)
            except (ValueError, FloatingPointError, RuntimeError) as error:
                raise CalibrationError(f"{root}: frame {row}: {error}") from error
            yield PolicySample(stamp_s=stamp_s, mean=found.reward)


def task_text(data: Demonstrations, row: int) -> str:
    """The task of a frame, in the data set's words; empty: it has none."""
    index = int(np.asarray(data.source.hf_dataset.with_format("numpy")[row]["task_index"]))
    return str(data.source.meta.tasks.iloc[index].name)


def _require_cameras(scorer: Scorer, data: Demonstrations, what: str) -> None:
    missing = [camera for camera in scorer.cameras if camera not in data.camera_shapes]
    if missing:
        raise CalibrationError(
            f"{data.source.root}: {missing[0]}: the {what} {scorer.path} needs it, the "
            f"roll-outs have {', '.join(data.camera_shapes) or 'no camera'}"
        )


# A scorer of each kind of judge that can be loaded.
_SCORERS: dict[type, Callable[[Any], Scorer]] = {
    LoadedPolicy: PolicyScorer,
    LoadedClassifier: ClassifierScorer,
    LoadedRewardModel: RewardModelScorer,
}


def open_scorer(folder: Path, device: str) -> Scorer:
    """Open a checkpoint that a calibration is made for; see ``load_judge``.

    Raises:
        CheckpointError, ClassifierError: it does not open.
        CalibrationError: a policy without a reward head.
    """
    loaded = load_judge(folder, device)
    return _SCORERS[type(loaded)](loaded)
