"""Kinematics of an arm from its MJCF or URDF, through MuJoCo: tool pose and Jacobian."""

from __future__ import annotations

import difflib
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

from rewact_ros.contract.schema import Contract, ContractError, JogTool, TeleopSource
from rewact_ros.control.jog import JogIntegrator
from rewact_ros.sim.backend import asset_dir, load_mujoco
from rewact_ros.sim.scene import build_xml


class ArmModelError(ValueError):
    """The robot model does not load or lacks a body or joint that the contract names."""


class ArmModel:
    """Forward kinematics and Jacobian of the joints that move one tool.

    Args:
        tool: model file, frame, tip and joints, from the contract.

    Raises:
        ArmModelError: the file does not load, or a body or joint is not in it.
        SimulationUnavailableError: MuJoCo, or the simulated arm's assets, are not installed.
    """

    def __init__(self, tool: JogTool) -> None:
        self._mj = load_mujoco()
        self._model = _load(self._mj, tool.model)
        self._data = self._mj.MjData(self._model)
        where = tool.model or "the simulated arm's model"
        bodies = [self._model.body(i).name for i in range(self._model.nbody)]
        joints = [self._model.joint(i).name for i in range(self._model.njnt)]
        self._body = _index(where, "body", tool.frame, bodies)
        self._tip = np.array(tool.tip_m)
        ids = [_index(where, "joint", name, joints) for _, name in tool.joints]
        simple = (self._mj.mjtJoint.mjJNT_HINGE, self._mj.mjtJoint.mjJNT_SLIDE)
        for name, index in zip((name for _, name in tool.joints), ids, strict=True):
            if self._model.jnt_type[index] not in simple:
                raise ArmModelError(f"{where}: joint '{name}': expected a hinge or a slide")
        self._mj.mj_kinematics(self._model, self._data)
        self._qpos, self._dof = self._model.jnt_qposadr[ids], self._model.jnt_dofadr[ids]

    def pose(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tool position (3,) in m and rotation (3, 3) in the base frame at joints (n,)."""
        if not np.array_equal(self._data.qpos[self._qpos], q):
            self._data.qpos[self._qpos] = q
            self._mj.mj_kinematics(self._model, self._data)
        rotation = self._data.xmat[self._body].reshape(3, 3).copy()
        return self._data.xpos[self._body] + rotation @ self._tip, rotation

    def jacobian(self, q: np.ndarray) -> np.ndarray:
        """(6, n): linear (m), then angular (rad) velocity of the tool per joint velocity."""
        point, _ = self.pose(q)
        self._mj.mj_comPos(self._model, self._data)
        jacobian = np.zeros((6, self._model.nv))
        self._mj.mj_jac(self._model, self._data, jacobian[:3], jacobian[3:], point, self._body)
        return jacobian[:, self._dof]


def make_integrator(contract: Contract, source: TeleopSource) -> JogIntegrator:
    """The jog of a source, with the kinematics of its tool where it has one.

    Raises:
        ContractError: the source has no `jog`.
        ArmModelError, SimulationUnavailableError: the tool's model does not load.
    """
    if source.jog is None:
        raise ContractError(
            f"teleop.{source.name}.jog: missing; it says how fast and in which directions to jog"
        )
    arm = ArmModel(source.jog.tool) if source.jog.tool is not None else None
    return JogIntegrator(contract, source.jog, arm)


def _load(mujoco: Any, path: str | None) -> Any:
    if path is None:
        return mujoco.MjModel.from_xml_string(build_xml(asset_dir()))
    try:
        root = ET.parse(path).getroot()
        if root.tag != "robot":
            return mujoco.MjModel.from_xml_path(path)
        return mujoco.MjModel.from_xml_string(_bare_urdf(root))
    except OSError as error:
        raise ArmModelError(
            f"robot model {path}: {error.strerror}; correct 'tool.model' in the contract"
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
