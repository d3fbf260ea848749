"""What a policy predicted, as messages."""

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from std_msgs.msg import Float32

from rewact_ros.contract import Contract
from rewact_ros.msg import ActionChunk, Reward, RewardFeatures
from rewact_ros.policy.engine import Prediction
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.chunk_messages import ChunkWriter


class ChunkMessages:
    """Action chunks of one robot; names and times stay in one message that is filled again."""

    def __init__(self, contract: Contract) -> None:
        self._writer = ChunkWriter(contract)

    def chunk(self, prediction: Prediction, stamp: Time) -> ActionChunk:
        """The message of a prediction, valid until the next call; the rest is the caller's."""
        return self._writer.write(prediction.actions.astype(np.float64), stamp)


def reward_message(prediction: Prediction, stamp: Time, version: str, reward_hash: str) -> Reward:
    """The reward of a prediction that has one."""
    assert prediction.reward is not None
    q10, q50, q90 = prediction.quantiles or (np.nan, np.nan, np.nan)
    msg = Reward(
        value=prediction.reward,
        q10=q10,
        q50=q50,
        q90=q90,
        entropy=np.nan if prediction.entropy is None else prediction.entropy,
        policy_version=version,
        reward_hash=reward_hash,
    )
    msg.header.stamp = stamp
    return msg


def features_message(prediction: Prediction, stamp: Time, reward_hash: str) -> RewardFeatures:
    """What the policy saw, of a prediction that says so."""
    assert prediction.features is not None
    msg = RewardFeatures(reward_hash=reward_hash)
    msg.features.frombytes(prediction.features.astype(np.float32).tobytes())
    msg.header.stamp = stamp
    return msg


class RewardPublishers:
    """The reward of each prediction that has one, with its features before it."""

    def __init__(self, node: Node) -> None:
        self._rewards = node.create_publisher(Reward, names.REWARD, names.EVENTS)
        self._features = node.create_publisher(RewardFeatures, names.REWARD_FEATURES, names.EVENTS)
        self._values = node.create_publisher(Float32, names.REWARD_VALUE, names.EVENTS)

    def publish(
        self, prediction: Prediction, stamp: Time, frame_id: str, version: str, reward_hash: str
    ) -> None:
        """Publish a prediction's reward, if it has one.

        Args:
            prediction: of a policy or a judge.
            stamp: of the observation.
            frame_id: of its first camera.
            version: of the weights.
            reward_hash: of what the reward depends on.
        """
        if prediction.reward is None:
            return
        if prediction.features is not None:
            features = features_message(prediction, stamp, reward_hash)
            features.header.frame_id = frame_id
            self._features.publish(features)
        reward = reward_message(prediction, stamp, version, reward_hash)
        reward.header.frame_id = frame_id
        self._rewards.publish(reward)
        self._values.publish(Float32(data=prediction.reward))
