"""Kinematics of an arm: tool pose and Jacobian of an MJCF or URDF, and its inverse.

Forward through MuJoCo, which is loaded only where a model is. Inverse by damped least squares, one
small step at a time (Nakamura & Hanafusa 1986): damping acts on the singular directions alone, so
away from singularities the tool follows exactly, and near one the joints slow down instead of
racing.
"""

from __future__ import annotations

import difflib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import JogTool
from rewact_ros.mujoco_backend import load_mujoco

FloatArray = NDArray[np.float64]
# A turn of 1 rad counts as much as this distance, so that one damping fits all six rows.
TURN_LENGTH_M = 0.3
# Singular values (m/rad) below this are damped, at 0 by as much.
DAMPED_BELOW_M = 0.03
ITERATIONS = 3
# m and rad; the next tick takes up what is left.
REACHED = 1e-6
# Calls of `solve` for one pose of a path, and the error that ends them: m, and rad times a length.
PATIENCE, CLOSE = 4, 1e-5
# The largest error that one linear step is trusted with.
STEP_M, STEP_RAD = 0.02, 0.1


class Arm(Protocol):
    """A chain of n joints that moves a tool."""

    def pose(self, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Tool position (3,) in m and rotation (3, 3) at the joints (n,)."""

    def jacobian(self, q: FloatArray) -> FloatArray:
        """(6, n): linear velocity (m/s), then angular (rad/s), per joint unit/s."""


@dataclass(frozen=True)
class Followed:
    """Joints along a path of poses.

    Attributes:
        joints: (n, J).
        lag_m, lag_rad: the farthest that the tool is from its pose on the way.
        collision: two bodies of the arm that would meet; "": none would.
    """

    joints: FloatArray
    lag_m: float
    lag_rad: float
    collision: str


class ArmModelError(ValueError):
    """The robot model does not load or lacks a body or joint that the contract names."""


class MujocoArm:
    """Forward kinematics and Jacobian of joints that move one tool, by a MuJoCo model.

    Args:
        model: that the joints are part of.
        body: the tool's, by number.
        tip_m: (3,) of the tool in the body's frame.
        qpos, dof: (n,) addresses of the joints' positions and velocities.
    """

    def __init__(
        self,
        model: Any,
        body: int,
        tip_m: FloatArray,
        qpos: NDArray[np.integer],
        dof: NDArray[np.integer],
    ) -> None:
        self._mj, self._model = load_mujoco(), model
        self._data = self._mj.MjData(model)  # of our own: thinking moves nothing
        self._body, self._tip, self._qpos, self._dof = body, tip_m, qpos, dof
        self._mj.mj_kinematics(model, self._data)

    def pose(self, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Tool position (3,) in m and rotation (3, 3) in the base frame at joints (n,)."""
        if not np.array_equal(self._data.qpos[self._qpos], q):
            self._data.qpos[self._qpos] = q
            self._mj.mj_kinematics(self._model, self._data)
        rotation = self._data.xmat[self._body].reshape(3, 3).copy()
        return self._data.xpos[self._body] + rotation @ self._tip, rotation

    def jacobian(self, q: FloatArray) -> FloatArray:
        """(6, n): linear (m), then angular (rad) velocity of the tool per joint velocity."""
        point, _ = self.pose(q)
        self._mj.mj_comPos(self._model, self._data)
        jacobian = np.zeros((6, self._model.nv))
        self._mj.mj_jac(self._model, self._data, jacobian[:3], jacobian[3:], point, self._body)
        return jacobian[:, self._dof]

    def touching(self, q: FloatArray) -> frozenset[str]:
        """Pairs of the arm's own bodies that overlap at joints (n,), as `A and B`.

        Bodies of one chain from the world count, with the model's other joints where they stand in
        the model; a body and its parent never do, nor shapes that the model lets pass each other.
        """
        self.pose(q)
        self._mj.mj_collision(self._model, self._data)
        if not self._data.ncon:
            return frozenset()
        bodies = self._model.geom_bodyid[self._data.contact.geom]
        own = self._model.body_rootid[bodies] == self._model.body_rootid[self._body]
        hit = own.all(axis=1) & (self._data.contact.dist < 0) & (bodies[:, 0] != bodies[:, 1])
        pairs = {tuple(sorted(self._model.body(i).name for i in pair)) for pair in bodies[hit]}
        return frozenset(" and ".join(pair) for pair in pairs)


class ArmModel(MujocoArm):
    """The arm of a contract's tool.

    Args:
        tool: model file, frame, tip and joints, from the contract.
        simulated: text of the model that a tool without a file means: the simulated robot's own.

    Raises:
        ArmModelError: the file does not load, or a body or joint is not in it.
        SimulationUnavailableError: MuJoCo, or the simulated arm's assets, are not installed.
    """

    def __init__(self, tool: JogTool, simulated: Callable[[], str]) -> None:
        mujoco = load_mujoco()
        model = _load(mujoco, tool.model, simulated)
        where = tool.model or "the simulated arm's model"
        bodies = [model.body(i).name for i in range(model.nbody)]
        joints = [model.joint(i).name for i in range(model.njnt)]
        body = _index(where, "body", tool.frame, bodies)
        ids = [_index(where, "joint", name, joints) for _, name in tool.joints]
        simple = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        for name, index in zip((name for _, name in tool.joints), ids, strict=True):
            if model.jnt_type[index] not in simple:
                raise ArmModelError(f"{where}: joint '{name}': expected a hinge or a slide")
        tip_m = np.array(tool.tip_m)
        super().__init__(model, body, tip_m, model.jnt_qposadr[ids], model.jnt_dofadr[ids])
        others = model.body_rootid[model.geom_bodyid] != model.body_rootid[body]
        model.geom_contype[others] = model.geom_conaffinity[others] = 0  # cost time, count nothing


def solve(
    arm: Arm,
    q: FloatArray,
    goal: tuple[FloatArray, FloatArray],
    low: FloatArray,
    high: FloatArray,
    max_step: FloatArray,
) -> FloatArray:
    """Bring the tool nearer to a pose.

    Args:
        q: (n,) joints to begin from.
        goal: position (3,) and rotation (3, 3) of the tool.
        low, high: (n,) joint limits; a joint at its limit leaves the work to the others.
        max_step: (n,) largest change of each joint, all iterations together.

    Returns:
        (n,) joints within limits and `max_step` of `q`, at the goal where that is in reach.
    """
    begin = q
    for _ in range(ITERATIONS):
        error = pose_error(arm.pose(q), goal)
        if np.abs(error).max() < REACHED:
            break
        step = _step(arm.jacobian(q), _bounded(error), q, low, high)
        moved = q + step - begin
        # All joints give way alike, so the tool keeps its direction.
        moved /= max(1.0, float((np.abs(moved) / max_step).max()))
        q = np.asarray(np.clip(begin + moved, low, high))
    return q


def follow(
    arm: MujocoArm,
    q: FloatArray,
    goals: Sequence[tuple[FloatArray, FloatArray]],
    low: FloatArray,
    high: FloatArray,
    max_steps: FloatArray,
) -> Followed:
    """Joints that take the tool along poses, each step from the one before.

    At a singularity, beyond the reach or at a limit the joints slow down or stop, the tool stays
    behind and catches up when the path comes back. A step at which two of the arm's bodies would
    meet, which do not overlap at `q`, is refused: the joints of the step before stay to the end.

    Args:
        q: (J,) observed joints.
        goals: n poses.
        low, high: (J,) joint limits.
        max_steps: (n, J) largest change of each joint from one step to the next.
    """
    within = arm.touching(q)
    here: FloatArray = np.clip(q, low, high)
    joints: list[FloatArray] = []
    lag: FloatArray = np.zeros(2)
    collision = ""
    for goal, longest in zip(goals, max_steps, strict=True):
        if not collision:
            there = _reached(arm, here, goal, low, high, longest)
            collision = min(arm.touching(there) - within, default="")
            here = here if collision else there
            error = pose_error(arm.pose(here), goal)
            lag = np.maximum(lag, [np.linalg.norm(error[:3]), np.linalg.norm(error[3:])])
        joints.append(here)
    return Followed(np.array(joints), float(lag[0]), float(lag[1]), collision)


def _reached(
    arm: Arm,
    begin: FloatArray,
    goal: tuple[FloatArray, FloatArray],
    low: FloatArray,
    high: FloatArray,
    longest: FloatArray,
) -> FloatArray:
    """Joints (J,) within `longest` of `begin`, at the goal where that is in reach."""
    q, low, high = begin, np.maximum(low, begin - longest), np.minimum(high, begin + longest)
    for _ in range(PATIENCE):
        if np.abs(pose_error(arm.pose(q), goal)).max() < CLOSE:
            break
        q = solve(arm, q, goal, low, high, longest)
    return q


def pose_error(
    pose: tuple[FloatArray, FloatArray], goal: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """(6,) from a pose to a goal: m, then a rotation vector in rad, in the base frame."""
    return np.concatenate([goal[0] - pose[0], rotation_vector(goal[1] @ pose[1].T)])


def rotation_vector(rotation: FloatArray) -> FloatArray:
    """(3,) axis times angle in rad of a rotation (3, 3) by less than half a turn."""
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = 0.5 * float(np.linalg.norm(skew))
    angle = np.arctan2(sine, 0.5 * (np.trace(rotation) - 1.0))
    return skew * (0.5 if sine < 1e-9 else 0.5 * angle / sine)


def rotation_by(vector: FloatArray) -> FloatArray:
    """Rotation (3, 3) by a vector (3,) of axis times angle in rad (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _load(mujoco: Any, path: str | None, simulated: Callable[[], str]) -> Any:
    if path is None:
        return mujoco.MjModel.from_xml_string(simulated())
    try:
        root = ET.parse(path).getroot()
        if root.tag != "robot":
            return mujoco.MjModel.from_xml_path(path)
        return mujoco.MjModel.from_xml_string(_bare_urdf(root))
    except OSError as error:
        raise ArmModelError(
            f"robot model {path}: {error.strerror}; correct 'model' of the contract's tool"
        ) from None
    except (ET.ParseError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ArmModelError(f"robot model {path}: expected MJCF or URDF: {text}") from None


def _bare_urdf(robot: ET.Element) -> str:
    """The URDF without meshes, whose paths only a ROS workspace resolves, and with every link."""
    for link in robot.iter("link"):
        for shape in (*link.findall("visual"), *link.findall("collision")):
            link.remove(shape)
    for own in robot.findall("mujoco"):
        robot.remove(own)
    compiler = ET.SubElement(ET.SubElement(robot, "mujoco"), "compiler")
    compiler.attrib.update(
        fusestatic="false", boundmass="0.001", boundinertia="0.000001", strippath="false"
    )
    return ET.tostring(robot, encoding="unicode")


def _index(where: str, kind: str, name: str, names: list[str]) -> int:
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(filter(None, names))}"
    raise ArmModelError(f"{where}: no {kind} '{name}'; {hint}")


def _bounded(error: FloatArray) -> FloatArray:
    return np.concatenate([_shortened(error[:3], STEP_M), _shortened(error[3:], STEP_RAD)])


def _shortened(vector: FloatArray, longest: float) -> FloatArray:
    """The vector, or one of length `longest` in its direction."""
    return vector / max(1.0, float(np.linalg.norm(vector)) / longest)


def _step(
    jacobian: FloatArray, error: FloatArray, q: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Damped least-squares step (n,); joints that would leave their limits stay out of it."""
    weight = np.repeat([1.0, TURN_LENGTH_M], 3)
    free = np.ones(len(q), dtype=bool)
    step: FloatArray = np.zeros(len(q))
    for _ in range(len(q)):
        step = _least_squares(weight[:, None] * jacobian * free, weight * error)
        blocked = free & (((q >= high) & (step > 0)) | ((q <= low) & (step < 0)))
        if not blocked.any():
            break
        free &= ~blocked
    return step * free


def _least_squares(matrix: FloatArray, wanted: FloatArray) -> FloatArray:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    near = np.maximum(0.0, 1.0 - (s / DAMPED_BELOW_M) ** 2)
    gain = s / (s**2 + DAMPED_BELOW_M**2 * near)
    return np.asarray(vt.T @ (gain * (u.T @ wanted)))
