"""Node `reward_model`: camera images in, the success classifier's probability out.

It publishes `rewact/success`, whose `value` is the calibrated probability, at the stamp of the
observation, so that it lines up with the policy's `rewact/reward`.
"""

import os
from pathlib import Path
from typing import Any

from rewact_ros.contract import ContractError
from rewact_ros.msg import Reward
from rewact_ros.nodes.scoring_node import ScoringNode
from rewact_ros.reward.classifier_checkpoint import load_classifier
from rewact_ros.reward.debug_images import DebugImages
from rewact_ros.reward.judges import ClassifierJudge, set_threads
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.observations import Observation
from rewact_ros.ros.params import RewardModelParams
from rewact_ros.ros.process import run_node

DEBUG_VARIABLE = "DEBUG_IMAGE_SAVE_DIR"


class RewardModelNode(ScoringNode):
    """The classifier's probability of success at the newest observation."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("reward_model", RewardModelParams, "success", **node_arguments)
        p = self.params
        self._classifier = load_classifier(p.model, p.device, _stated(p))
        judge = ClassifierJudge(self._classifier, self.contract)
        self._debug = self._debug_images()
        self._publisher = self.create_publisher(Reward, names.SUCCESS, names.EVENTS)
        set_threads(self._classifier, p.threads)
        judge.warm_up()
        self.begin()
        self.get_logger().info(
            f"classifier {self.version} on {', '.join(self._classifier.config.cameras)}"
        )

    @property
    def version(self) -> str:
        """Of the classifier."""
        return self._classifier.version

    # Configuration ----------------------------------------------------------------------------

    def _debug_images(self) -> DebugImages | None:
        folder = self.params.debug_save_dir or os.environ.get(DEBUG_VARIABLE, "")
        if not folder:
            return None
        try:
            return DebugImages(
                Path(folder), self.params.reward_threshold, self.params.debug_max_images
            )
        except OSError as error:
            raise ContractError(
                f"debug_save_dir {folder}: {error.strerror}; name a folder that can be written"
            ) from error

    # Inference --------------------------------------------------------------------------------

    def infer(self, seen: Observation) -> float:
        """The probability of success."""
        return self._classifier.probability(seen.frame.values)

    def publish(self, seen: Observation, found: float) -> float:
        """Tell it, without the quantiles that a classifier does not have."""
        unknown = float("nan")
        msg = Reward(
            value=found,
            q10=unknown,
            q50=unknown,
            q90=unknown,
            entropy=unknown,
            policy_version=self.version,
        )
        msg.header.stamp = to_stamp(seen.frame.stamp_ns)
        msg.header.frame_id = self._observations.frame_id
        self._publisher.publish(msg)
        return found

    def keep(self, seen: Observation, found: float) -> None:
        """Keep the pictures for a person to look at, where that is asked for."""
        if self._debug is None:
            return
        pictures = [seen.frame.values[camera] for camera in self._classifier.config.cameras]
        try:
            self._debug.write(pictures, found)  # type: ignore[arg-type]
        except OSError as error:
            self._debug = None  # a full disk must not cost a line per image
            self.get_logger().error(f"debug images end here: {error}")


def _stated(params: RewardModelParams) -> dict[str, Any]:
    """Model settings that the user states, which the checkpoint must then have."""
    stated: dict[str, Any] = {}
    if params.arch:
        stated["arch"] = params.arch
    if params.hidden_dim:
        stated["hidden_dim"] = params.hidden_dim
    if params.image_height or params.image_width:
        stated["image_size"] = (params.image_height, params.image_width)
    return stated


def main() -> None:
    """Entry point."""
    run_node(RewardModelNode)


if __name__ == "__main__":
    main()
