"""What a policy predicted, as messages."""

import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rewact_ros.contract import Contract
from rewact_ros.msg import ActionChunk, Reward, RewardFeatures
from rewact_ros.policy.engine import Prediction
from rewact_ros.stamps import NANO


class ChunkMessages:
    """Action chunks of one robot; names and times stay in one message that is filled again."""

    def __init__(self, contract: Contract) -> None:
        self._step_ns = round(contract.dt_s * NANO)
        self._msg = ActionChunk()
        self._msg.trajectory = JointTrajectory(joint_names=list(contract.action_names))

    def chunk(self, prediction: Prediction, stamp: Time) -> ActionChunk:
        """The message of a prediction, valid until the next call; the rest is the caller's."""
        rows = prediction.actions.astype(np.float64)
        points = self._msg.trajectory.points
        if len(points) != len(rows):
            points = [JointTrajectoryPoint() for _ in rows]
            for k, point in enumerate(points):
                seconds, ns = divmod(k * self._step_ns, NANO)
                point.time_from_start = Duration(sec=seconds, nanosec=ns)
            self._msg.trajectory.points = points
        for point, row in zip(points, rows, strict=True):
            point.positions = array.array("d", row.tobytes())
        self._msg.header.stamp = self._msg.trajectory.header.stamp = stamp
        return self._msg


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
