"""What a policy predicted, as messages."""

import numpy as np
from builtin_interfaces.msg import Time

from rewact_ros.contract import Contract
from rewact_ros.msg import ActionChunk, Reward, RewardFeatures
from rewact_ros.policy.engine import Prediction
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
