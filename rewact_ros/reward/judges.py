"""Who may judge another's work: a RewACT's reward, the success classifier, a LeRobot reward model.

Whatever moves the robot, its observations go to a judge, and the supervisor reads the score as it
reads a policy's own reward. A kind of judge is one row of ``KINDS``, which bring-up, `rewact
calibrate` and the judge without ROS go by alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rewact_ros.contract import Contract, ContractError
from rewact_ros.policy.checkpoint import LOADERS, LoadedPolicy, load_policy
from rewact_ros.policy.checkpoint_files import (
    CONFIG,
    CheckpointError,
    CheckpointFiles,
    Size,
    open_folder,
    type_of,
)
from rewact_ros.policy.compatibility import check_contract, require_reward
from rewact_ros.policy.engine import Observation, Prediction
from rewact_ros.policy.engines import load_engine
from rewact_ros.policy.open_lerobot import known_types

from .classifier import LoadedClassifier
from .classifier_checkpoint import TYPE, load_classifier
from .lerobot_judge import RewardModelJudge
from .lerobot_model import LoadedRewardModel, load_reward_model, reward_types
from .lerobot_types import TYPES

Loaded = LoadedPolicy | LoadedClassifier | LoadedRewardModel
# A vision-language model has ten times the weights of a policy.
_LARGE = Size(weights_bytes=20 * 1024**3, folder_bytes=40 * 1024**3)


class Judge(Protocol):
    """What looks at observations and scores them.

    Attributes:
        instruction: what to do, in words, for a judge that is told so; others do not read it.
        needs_text: whether it is.
        reward_hash: of all that the score depends on; a calibration names it.
        description: what runs.
    """

    instruction: str

    @property
    def needs_text(self) -> bool: ...

    @property
    def reward_hash(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def memory(self) -> int:
        """So many observations before the newest are looked at, too."""
        ...

    def reset(self) -> None:
        """Forget the past: what is seen next does not follow from it."""
        ...

    def remember(self, observation: Observation, stamp_s: float) -> None:
        """Take one that nobody scores; see ``Engine``."""
        ...

    def warm_up(self) -> None:
        """Run on zeros, so that the first observation does not pay for allocations."""
        ...

    def infer(self, observation: Observation, stamp_s: float | None = None) -> Prediction:
        """Score an observation: its `reward`, and what the judge knows besides; see ``Engine``."""
        ...


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge runs; see ``load_engine``."""

    device: str = "auto"
    engine: str = "auto"
    precision: str = "fp32"
    threads: int | None = 1


class ClassifierJudge:
    """The success classifier's probability as a score; it has neither quantiles nor features."""

    instruction, needs_text, memory = "", False, 0

    def __init__(self, classifier: LoadedClassifier, contract: Contract | None) -> None:
        if contract is not None:
            require_cameras(classifier, contract)
        self._classifier = classifier
        self.reward_hash = classifier.version
        device = classifier.model.temperature.device
        self.description = f"success classifier {classifier.config.arch} on {device}"

    def reset(self) -> None:
        """It looks at one moment at a time."""

    def remember(self, observation: Observation, stamp_s: float) -> None:
        """It has no past."""

    def warm_up(self) -> None:
        """Run on black pictures."""
        config = self._classifier.config
        black: dict[str, NDArray[Any]] = {
            camera: np.zeros((*config.image_size, 3), np.uint8) for camera in config.cameras
        }
        self._classifier.probability(black)

    def infer(self, observation: Observation, stamp_s: float | None = None) -> Prediction:
        """Score an observation."""
        return Prediction(np.zeros((0, 0), np.float32), self._classifier.probability(observation))


def require_cameras(classifier: LoadedClassifier, contract: Contract) -> None:
    """Refuse a classifier of cameras that the robot does not have.

    Raises:
        ContractError: names the camera and those of the contract.
    """
    have = [camera.key for camera in contract.cameras]
    for camera in classifier.config.cameras:
        if camera not in have:
            raise ContractError(
                f"{contract.robot}: {camera}: the classifier {classifier.path} needs it, the "
                f"contract has {', '.join(have) or 'no camera'}; train one with --camera"
            )


def set_threads(classifier: LoadedClassifier, threads: int | None) -> None:
    """Give a classifier on the CPU so many of this process's threads (None: torch's choice)."""
    if threads is not None and classifier.model.temperature.device.type == "cpu":
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Kind[L]:
    """A kind of judge.

    Attributes:
        has: whether a type in a configuration is of this kind.
        load: opens its checkpoint on a device, checking all of it.
        judge: makes the judge of what was loaded; with a contract it is checked against the robot.
        size: (type) what its checkpoint may weigh.
    """

    has: Callable[[str], bool]
    load: Callable[[CheckpointFiles, str], L]
    judge: Callable[[L, Contract | None, float, JudgeSettings, Callable[[str], object]], Judge]
    size: Callable[[str], Size] = lambda kind: Size()


def load_judge(folder: str | Path, device: str) -> Loaded:
    """Open a checkpoint that scores, whatever its kind.

    Raises:
        CheckpointError, ClassifierError: the folder is damaged, or of a type that nobody has.
    """
    path = Path(folder).expanduser().resolve()  # of a link that may move on
    asked = type_of(path)
    kind = _kind(asked)
    files = open_folder(path, kind.size(asked))
    found = files.json(CONFIG, infinity=True).get("type") if CONFIG in files else None
    if isinstance(found, str) and found != asked:
        raise CheckpointError(f"{path / CONFIG}: changed while it was read; try again")
    loaded: Loaded = kind.load(files, device)
    return loaded


def judge_of(
    loaded: Loaded,
    contract: Contract | None,
    rate_hz: float,
    settings: JudgeSettings,
    report: Callable[[str], object],
) -> Judge:
    """Make a judge of what was loaded.

    Args:
        loaded: as `load_judge` gives it.
        contract: of the robot; None: nothing is known of it, and each observation is checked.
        rate_hz: of the observations.
        settings: how it runs.
        report: told of an engine that could not serve.

    Raises:
        CheckpointError: no reward head.
        ContractError: its inputs are not the robot's.
        EngineError: the engine cannot run here.
    """
    kind = next(kind for made, kind in KINDS.items() if isinstance(loaded, made))
    return kind.judge(loaded, contract, rate_hz, settings, report)


def open_judge(
    folder: str | Path,
    contract: Contract,
    settings: JudgeSettings,
    report: Callable[[str], object],
) -> tuple[Judge, str]:
    """Open a checkpoint that scores, and check it against the robot; also its version.

    Args:
        folder: of a policy with a reward head, whose actions may be another robot's, of a success
            classifier, or of a reward model of LeRobot or of a plug-in.
        contract: of the robot.
        settings: how it runs.
        report: told of an engine that could not serve.

    Raises:
        CheckpointError, ClassifierError, ContractError, EngineError: see ``load_judge`` and
            ``judge_of``.
    """
    loaded = load_judge(folder, settings.device)
    return judge_of(loaded, contract, contract.rate_hz, settings, report), loaded.version


def _judge_by_classifier(
    loaded: LoadedClassifier,
    contract: Contract | None,
    rate_hz: float,
    settings: JudgeSettings,
    report: Callable[[str], object],
) -> Judge:
    set_threads(loaded, settings.threads)
    return ClassifierJudge(loaded, contract)


def _judge_by_policy(
    loaded: LoadedPolicy,
    contract: Contract | None,
    rate_hz: float,
    settings: JudgeSettings,
    report: Callable[[str], object],
) -> Judge:
    if contract is None:
        require_reward(loaded)
    else:
        check_contract(loaded, contract, reward_only=True)
    return load_engine(
        loaded, settings.engine, settings.precision, settings.threads, rate_hz, report=report
    )


def _judge_by_reward_model(
    loaded: LoadedRewardModel,
    contract: Contract | None,
    rate_hz: float,
    settings: JudgeSettings,
    report: Callable[[str], object],
) -> Judge:
    if settings.threads is not None and loaded.config.device == "cpu":
        torch.set_num_threads(settings.threads)
    return RewardModelJudge(loaded, contract, rate_hz)


def _is_reward_model(kind: str) -> bool:
    """A name that both registers have is the policy's, as `rewact` is: a folder has one meaning."""
    return kind not in LOADERS and kind in reward_types() and kind not in known_types()


def _reward_model_size(kind: str) -> Size:
    return replace(_LARGE, weightless=kind in TYPES and TYPES[kind].weightless)


# By what it is once it is open. The first that has the type opens it; a policy is what is left, for
# the oldest RewACT package wrote no type.
KINDS: dict[type, Kind[Any]] = {
    LoadedClassifier: Kind(
        lambda kind: kind == TYPE,
        lambda files, device: load_classifier(files, device),
        _judge_by_classifier,
    ),
    LoadedRewardModel: Kind(
        _is_reward_model, load_reward_model, _judge_by_reward_model, _reward_model_size
    ),
    LoadedPolicy: Kind(lambda kind: True, load_policy, _judge_by_policy),
}


def _kind(name: str) -> Kind[Any]:
    return next(kind for kind in KINDS.values() if kind.has(name))
