"""What robot steps earn: the verdict's reward, or one composed with a success classifier's."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rewact_ros import strict_yaml
from rewact_ros.contract import Contract
from rewact_ros.reward.classifier import ClassifierError, LoadedClassifier
from rewact_ros.reward.classifier_checkpoint import load_classifier
from rewact_ros.reward.composition import CompositionError, CompositionSettings, RewardComposition
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.text import reason

from .settings import LearnError


class RewardJudge:
    """Judges the steps of one episode; an observation judges the step that it ends.

    Args:
        reward: how rewards are composed; None: 1 at a success, nothing else.
        classifier: None: it is not asked.
        gate: the classifier's part in success; None: it has none.
    """

    def __init__(
        self,
        reward: CompositionSettings | None = None,
        classifier: LoadedClassifier | None = None,
        gate: ClassifierGate | None = None,
    ) -> None:
        self._composition = RewardComposition(reward) if reward else None
        self._classifier, self._gate = classifier, gate
        self._probability: float | None = None

    @property
    def recipe(self) -> dict[str, object] | None:
        """What decides about rewards, as JSON has it; None: the verdict alone."""
        if self._composition is None:
            return None
        version = self._classifier.version if self._classifier else ""
        return {"classifier": version, **asdict(self._composition.settings)}

    def begin(self) -> None:
        """Forget the last episode."""
        self._probability = None
        if self._composition is not None:
            self._composition.reset()
        if self._gate is not None:
            self._gate.reset()

    def see(self, images: Mapping[str, NDArray[Any]], time_s: float) -> None:
        """Look at an observation; camera key -> (H, W, 3) uint8, other entries are ignored.

        Raises:
            ClassifierError: a camera is missing, or the classifier answers no number.
        """
        if self._classifier is None:
            return
        self._probability = self._classifier.probability(images)
        if self._gate is not None:
            self._gate.add(self._probability, time_s)

    def agrees(self, time_s: float) -> bool:
        """Whether the classifier has nothing against a success."""
        return self._gate is None or not self._gate.fault(time_s)

    def step(self, success: bool = False, last: bool = False) -> float:
        """Reward of the step that the last observation ended; call it once per step.

        Args:
            success: the verdict, given at this observation; its 1 is the environment's reward.
            last: the episode ends with this step.
        """
        if self._composition is None:
            return float(success)
        return self._composition.step(self._probability, float(success), last).reward


def open_classifier(path: str, contract: Contract, device: str) -> LoadedClassifier:
    """Open a success classifier that sees this robot's cameras.

    Raises:
        LearnError: no such checkpoint, a damaged one, or one of cameras that the robot lacks.
    """
    try:
        classifier = load_classifier(path, device)
    except ClassifierError as error:
        raise LearnError(f"classifier: {error}") from error
    have = [camera.key for camera in contract.cameras]
    for camera in classifier.config.cameras:
        if camera not in have:
            raise LearnError(
                f"classifier {path}: it needs {camera}, the robot has {', '.join(have)}; train one "
                "with --camera"
            )
    return classifier


def load_reward(file: Path) -> CompositionSettings:
    """Read how rewards are composed: a JSON object of ``CompositionSettings``.

    Raises:
        LearnError: no such file, no JSON object, or a setting that is wrong.
    """
    try:
        return CompositionSettings(**strict_yaml.load_json(file))
    except (OSError, TypeError, strict_yaml.YamlError, CompositionError) as error:
        raise LearnError(
            f"{file}: expected a JSON object of reward settings: {reason(error, file)}"
        ) from error
