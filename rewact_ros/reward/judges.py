"""Who may judge another's work: a RewACT's reward, or the success classifier.

Whatever moves the robot, its observations go to a judge, and the supervisor reads the score as it
reads a policy's own reward. A kind of judge is one row of `_KINDS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from rewact_ros.contract import Contract, ContractError
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.checkpoint_files import CONFIG, CheckpointFiles, open_folder
from rewact_ros.policy.compatibility import check_contract
from rewact_ros.policy.engine import Observation, Prediction
from rewact_ros.policy.engines import load_engine

from .classifier import LoadedClassifier
from .classifier_checkpoint import TYPE, load_classifier


class Judge(Protocol):
    """What looks at observations and scores them.

    Attributes:
        reward_hash: of all that the score depends on; a calibration names it.
        description: what runs.
    """

    @property
    def reward_hash(self) -> str: ...

    @property
    def description(self) -> str: ...

    def reset(self) -> None:
        """Forget the past: what is seen next does not follow from it."""
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

    def __init__(self, classifier: LoadedClassifier, contract: Contract) -> None:
        require_cameras(classifier, contract)
        self._classifier, self._contract = classifier, contract
        self.reward_hash = classifier.version
        device = classifier.model.temperature.device
        self.description = f"success classifier {classifier.config.arch} on {device}"

    def reset(self) -> None:
        """It looks at one moment at a time."""

    def warm_up(self) -> None:
        """Run on black pictures."""
        black = {c.key: np.zeros(c.shape, np.uint8) for c in self._contract.cameras}
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


def open_judge(
    folder: str | Path,
    contract: Contract,
    settings: JudgeSettings,
    report: Callable[[str], object],
) -> tuple[Judge, str]:
    """Open a checkpoint that scores, and check it against the robot; also its version.

    Args:
        folder: of a policy with a reward head, whose actions may be another robot's, or of a
            success classifier.
        contract: of the robot.
        settings: how it runs.
        report: told of an engine that could not serve.

    Raises:
        CheckpointError, ClassifierError: the folder is damaged or of another kind; no reward head.
        ContractError: its inputs are not the robot's.
        EngineError: the engine cannot run here.
    """
    files = open_folder(Path(folder).expanduser().resolve())  # of a link that may move on
    kind = files.json(CONFIG).get("type") if CONFIG in files else None
    return _KINDS.get(str(kind), _open_policy)(files, contract, settings, report)


def _open_classifier(
    files: CheckpointFiles,
    contract: Contract,
    settings: JudgeSettings,
    report: Callable[[str], object],
) -> tuple[Judge, str]:
    classifier = load_classifier(files.path, settings.device)
    set_threads(classifier, settings.threads)
    return ClassifierJudge(classifier, contract), classifier.version


def _open_policy(
    files: CheckpointFiles,
    contract: Contract,
    settings: JudgeSettings,
    report: Callable[[str], object],
) -> tuple[Judge, str]:
    loaded = load_policy(files, settings.device)
    check_contract(loaded, contract, reward_only=True)
    engine = load_engine(
        loaded,
        settings.engine,
        settings.precision,
        settings.threads,
        contract.rate_hz,
        report=report,
    )
    return engine, loaded.version


_KINDS = {TYPE: _open_classifier}
