"""Node `reward_model`: camera images in, the success classifier's probability out.

It publishes `rewact/success`, whose `value` is the calibrated probability, at the stamp of the
observation, so that it lines up with the policy's `rewact/reward`.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node

from rewact_ros.contract import ContractError, Frame, load_contract
from rewact_ros.msg import Reward
from rewact_ros.reward.classifier_checkpoint import load_classifier
from rewact_ros.reward.debug_images import DebugImages
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.observations import Observations
from rewact_ros.ros.params import RewardModelParams, declare
from rewact_ros.ros.path_times import PathTimes
from rewact_ros.ros.process import run_node

DEBUG_VARIABLE = "DEBUG_IMAGE_SAVE_DIR"


class RewardModelNode(Guarded, Node):
    """Judges the newest complete observation in a worker thread; what it misses, it skips."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("reward_model", **node_arguments)
        self.params = p = declare(self, RewardModelParams)
        self.contract = load_contract(p.contract, self.get_namespace())
        self._classifier = load_classifier(p.model, p.device, _stated(p))
        self._check_cameras()
        self._debug = self._debug_images()
        self.clock = NodeClock(self)
        self._probability: float | None = None
        self._fault = ""
        self._times = PathTimes("success")
        self._publisher = self.create_publisher(Reward, names.SUCCESS, names.EVENTS)
        self._observations = Observations(self, self.contract, self.clock)
        publish_diagnostics(self, self._diagnose)
        self._warm_up()
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)
        self._worker.start()
        self.get_logger().info(
            f"classifier {self._classifier.version} on {', '.join(self._classifier.config.cameras)}"
        )

    def close(self) -> None:
        """End the worker before the node goes."""
        self._observations.shut()
        self._worker.join(timeout=5.0)

    # Configuration ----------------------------------------------------------------------------

    def _check_cameras(self) -> None:
        have = [camera.key for camera in self.contract.cameras]
        for camera in self._classifier.config.cameras:
            if camera not in have:
                raise ContractError(
                    f"{self.params.contract}: {camera}: the classifier {self.params.model} needs "
                    f"it, the contract has {', '.join(have)}; train one with --camera"
                )

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

    def _warm_up(self) -> None:
        import torch

        if self._classifier.model.temperature.device.type == "cpu":
            torch.set_num_threads(self.params.threads)
        black = {c.key: np.zeros(c.shape, np.uint8) for c in self.contract.cameras}
        self._classifier.probability(black)

    # Inference --------------------------------------------------------------------------------

    def _work(self) -> None:
        """Worker thread: the newest observation, one at a time."""
        while (seen := self._observations.newest()) is not None:
            started_s = time.monotonic()
            try:
                probability = self._classifier.probability(seen.frame.values)
            except (ValueError, RuntimeError) as error:
                # Silence, not a made-up value: whoever listens sees the topic go stale.
                self._fault = f"inference failed: {error}"
                self.get_logger().error(self._fault, throttle_duration_sec=5.0)
                continue
            queue_s, elapsed_s = started_s - seen.complete_s, time.monotonic() - started_s
            self._fault, self._probability = "", probability
            self._publish(seen.frame, probability)
            self._times.latency(seen.frame.stamp_ns, self.clock.now().ros_ns)
            self._times.add(queue_s, elapsed_s, time.monotonic() - seen.complete_s)
            self._save_debug(seen.frame, probability)

    def _publish(self, frame: Frame, probability: float) -> None:
        unknown = float("nan")
        msg = Reward(
            value=probability,
            q10=unknown,
            q50=unknown,
            q90=unknown,
            entropy=unknown,
            policy_version=self._classifier.version,
        )
        msg.header.stamp = to_stamp(frame.stamp_ns)
        msg.header.frame_id = self._observations.frame_id
        self._publisher.publish(msg)

    def _save_debug(self, frame: Frame, probability: float) -> None:
        if self._debug is None:
            return
        pictures = [frame.values[camera] for camera in self._classifier.config.cameras]
        try:
            self._debug.write(pictures, probability)  # type: ignore[arg-type]
        except OSError as error:
            self._debug = None  # a full disk must not cost a line per image
            self.get_logger().error(f"debug images end here: {error}")

    # Outputs ----------------------------------------------------------------------------------

    def _reason(self) -> str:
        """Why nothing is judged, or an empty string."""
        if self._fault:
            return self._fault
        stream, reason = self._observations.fault()
        return f"{stream}: {reason}" if reason else ""

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        warning = self._reason() or self._times.odd_stamp
        level = ERROR if self._fault else WARN if warning else OK
        known = self._probability is not None
        return (
            level,
            warning or "judging",
            {
                "classifier_version": self._classifier.version,
                "success_probability": f"{self._probability:.4f}" if known else "unknown",
                **self._times.values(),
                **self._observations.values(),
            },
        )


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
