"""Steps of a chunk (K, A) → messages: joints as a trajectory, Cartesian parts as poses."""

import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Quaternion, Transform, Vector3
from numpy.typing import NDArray
from trajectory_msgs.msg import (
    JointTrajectory,
    JointTrajectoryPoint,
    MultiDOFJointTrajectory,
    MultiDOFJointTrajectoryPoint,
)

from rewact_ros.contract import Contract
from rewact_ros.control.space import POSE_WIDTH, vector
from rewact_ros.msg import ActionChunk
from rewact_ros.rotations import quaternion
from rewact_ros.stamps import NANO


class ChunkWriter:
    """Action chunks of one robot; names and times stay in one message that is filled again."""

    def __init__(self, contract: Contract) -> None:
        self._step_ns = round(contract.dt_s * NANO)
        self._poses, self._joints = contract.poses, contract.joint_columns
        self._msg = ActionChunk()
        names = [contract.action_names[i] for i in self._joints]
        self._msg.trajectory = JointTrajectory(joint_names=names)
        if self._poses:
            parts = [part.name for part in contract.action if part.name]
            self._msg.poses = MultiDOFJointTrajectory(joint_names=parts)

    def write(self, rows: NDArray[np.float64], stamp: Time) -> ActionChunk:
        """The message of steps (K, A), valid until the next call."""
        if self._joints.size:
            self._write_joints(rows if not self._poses else rows[:, self._joints])
            self._msg.trajectory.header.stamp = stamp
        if self._poses:
            self._write_poses(rows)
            self._msg.poses.header.stamp = stamp
        self._msg.header.stamp = stamp
        return self._msg

    def _write_joints(self, rows: NDArray[np.float64]) -> None:
        points = self._msg.trajectory.points
        if len(points) != len(rows):
            points = [JointTrajectoryPoint(time_from_start=self._due(k)) for k in range(len(rows))]
            self._msg.trajectory.points = points
        for point, row in zip(points, rows, strict=True):
            point.positions = array.array("d", row.tobytes())

    def _write_poses(self, rows: NDArray[np.float64]) -> None:
        points = []
        for k, row in enumerate(rows):
            point = MultiDOFJointTrajectoryPoint(time_from_start=self._due(k))
            point.transforms = [_transform(row[at : at + POSE_WIDTH]) for at in self._poses]
            points.append(point)
        self._msg.poses.points = points

    def _due(self, step: int) -> Duration:
        seconds, ns = divmod(step * self._step_ns, NANO)
        return Duration(sec=seconds, nanosec=ns)


def _transform(pose: NDArray[np.float64]) -> Transform:
    x, y, z = vector(pose[:3])
    qx, qy, qz, qw = quaternion(vector(pose[3:]))
    return Transform(
        translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)
    )
