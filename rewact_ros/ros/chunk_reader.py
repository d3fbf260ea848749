"""Action chunks from the graph, checked before they cost anything."""

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory, MultiDOFJointTrajectory

from rewact_ros.contract import Contract
from rewact_ros.control.chunks import MOST_STEPS, Chunk, ChunkError
from rewact_ros.control.space import POSE_WIDTH
from rewact_ros.msg import ActionChunk
from rewact_ros.ros.convert import to_ns
from rewact_ros.rotations import rotation_vector
from rewact_ros.stamps import NANO

FloatArray = NDArray[np.float64]

# Of one step: what rounding and another clock's tick explain, and another rate does not.
STEP_TOLERANCE = 0.05


def read_chunk(msg: ActionChunk, contract: Contract) -> Chunk:
    """The chunk in a message, whose step k is due k / `rate_hz` after its observation.

    Raises:
        ChunkError: too many steps, other joints or another order, a step of another width, or
            one that is due at another time (`time_from_start`); of poses also what is no rotation.
    """
    if contract.poses:
        positions = _with_poses(msg, contract)
    else:
        positions = _joints(msg.trajectory, contract.action_names, contract.dt_s)
    return Chunk(to_ns(msg.header.stamp), msg.epoch, positions, contract.dt_s)


def _joints(trajectory: JointTrajectory, expected: Sequence[str], dt_s: float) -> FloatArray:
    """(K, J) positions of the joints, in the order that is expected."""
    joints, points = trajectory.joint_names, trajectory.points
    _check_steps(len(points))
    if tuple(joints) != tuple(expected):
        raise ChunkError(
            f"chunk is for the joints {', '.join(joints[: len(expected)])} ({len(joints)}), "
            f"expected {', '.join(expected)} in this order"
        )
    for k, point in enumerate(points):
        if len(point.positions) != len(expected):
            raise ChunkError(
                f"step {k} of the chunk has {len(point.positions)} positions, "
                f"expected {len(expected)}"
            )
        _check_time(k, point.time_from_start, dt_s)
    return np.array([point.positions for point in points], dtype=np.float64)


def _with_poses(msg: ActionChunk, contract: Contract) -> FloatArray:
    """(K, A) joints and poses, each in its place."""
    parts = [part for part in contract.action if part.name]
    poses = _poses(msg.poses, [part.name for part in parts], contract.dt_s)
    rows = np.empty((len(poses), len(contract.action_names)))
    for i, first in enumerate(contract.poses):
        rows[:, first : first + POSE_WIDTH] = poses[:, i]
    columns = contract.joint_columns
    if columns.size:
        names = [contract.action_names[i] for i in columns]
        joints = _joints(msg.trajectory, names, contract.dt_s)
        if len(joints) != len(poses):
            raise ChunkError(f"chunk has {len(joints)} steps of joints and {len(poses)} of poses")
        rows[:, columns] = joints
    elif msg.trajectory.joint_names or msg.trajectory.points:
        raise ChunkError("chunk has joints, expected poses only")
    return rows


def _poses(trajectory: MultiDOFJointTrajectory, expected: Sequence[str], dt_s: float) -> FloatArray:
    """(K, P, 6) position and rotation vector of each Cartesian part, by its name."""
    _check_steps(len(trajectory.points))
    if list(trajectory.joint_names) != list(expected):
        got = ", ".join(trajectory.joint_names[: len(expected)])
        raise ChunkError(
            f"chunk has poses of {got or 'nothing'} ({len(trajectory.joint_names)}), expected "
            f"{', '.join(expected)} in this order"
        )
    rows = np.empty((len(trajectory.points), len(expected), POSE_WIDTH))
    for k, point in enumerate(trajectory.points):
        if len(point.transforms) != len(expected):
            raise ChunkError(
                f"step {k} of the chunk has {len(point.transforms)} poses, expected {len(expected)}"
            )
        _check_time(k, point.time_from_start, dt_s)
        for i, transform in enumerate(point.transforms):
            at, q = transform.translation, transform.rotation
            try:
                turn = rotation_vector((q.x, q.y, q.z, q.w))
            except ValueError as error:
                raise ChunkError(f"step {k} of the chunk: {expected[i]}: {error}") from None
            rows[k, i] = (at.x, at.y, at.z, *turn)
    return rows


def _check_steps(steps: int) -> None:
    if not 1 <= steps <= MOST_STEPS:
        raise ChunkError(f"chunk has {steps} steps, expected 1 to {MOST_STEPS}")


def _check_time(step: int, due: Duration, dt_s: float) -> None:
    due_s = due.sec + due.nanosec / NANO
    if abs(due_s - step * dt_s) > STEP_TOLERANCE * dt_s:
        raise ChunkError(
            f"step {step} of the chunk has time_from_start {due_s:.4f} s, expected "
            f"{step * dt_s:.4f} s at rate_hz {1 / dt_s:g}"
        )
