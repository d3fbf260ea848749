"""Action chunks from the graph, checked before they cost anything."""

import numpy as np

from rewact_ros.contract import Contract
from rewact_ros.control.chunks import MOST_STEPS, Chunk, ChunkError
from rewact_ros.msg import ActionChunk
from rewact_ros.ros.convert import to_ns
from rewact_ros.stamps import NANO

# Of one step: what rounding and another clock's tick explain, and another rate does not.
STEP_TOLERANCE = 0.05


def read_chunk(msg: ActionChunk, contract: Contract) -> Chunk:
    """The chunk in a message, whose step k is due k / `rate_hz` after its observation.

    Raises:
        ChunkError: too many steps, other joints or another order, a step of another width, or
            one that is due at another time (`time_from_start`).
    """
    joints, points = msg.trajectory.joint_names, msg.trajectory.points
    if not 1 <= len(points) <= MOST_STEPS:
        raise ChunkError(f"chunk has {len(points)} steps, expected 1 to {MOST_STEPS}")
    expected = contract.action_names
    if tuple(joints) != expected:
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
        due_s = point.time_from_start.sec + point.time_from_start.nanosec / NANO
        if abs(due_s - k * contract.dt_s) > STEP_TOLERANCE * contract.dt_s:
            raise ChunkError(
                f"step {k} of the chunk has time_from_start {due_s:.4f} s, expected "
                f"{k * contract.dt_s:.4f} s at rate_hz {contract.rate_hz:g}"
            )
    positions = np.array([point.positions for point in points], dtype=np.float64)
    return Chunk(to_ns(msg.header.stamp), msg.epoch, positions, contract.dt_s)
