"""The pick-and-place scene: the wheel's ViperX-300s MJCF, with a table, a cube and an open tray.

The arm comes from the gym-aloha wheel at load time, and only what a single servo-driven arm needs
is changed: joint friction gives way to damped position servos with gravity compensation, mesh
collision to primitive finger pads (faster, and a steadier grasp), and the fingers open wider.
"""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

from rewact_ros.mujoco_backend import SimulationUnavailableError

ARM = "vx300s_left/"
ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
FINGER_CLOSED_M = 0.021
FINGER_OPEN_M = 0.065  # 8.8 cm between the pads; the stock 0.057 gives 7.2 cm
CUBE_HALF_M = 0.02
TRAY_HALF_M = 0.07  # inner half width
TRAY_WALL_M = 0.03  # wall height above the table
TABLE_X_M = (-0.25, 0.75)
TABLE_Y_M = (-0.50, 0.50)

# kp, kv, armature: critically damped at the arm's typical inertia, 30-40 ms behind a ramp.
_SERVOS = {
    "waist": (1000.0, 36.0, 0.10),
    "shoulder": (1600.0, 52.0, 0.10),
    "elbow": (1000.0, 32.0, 0.10),
    "forearm_roll": (120.0, 4.0, 0.03),
    "wrist_angle": (160.0, 5.0, 0.03),
    "wrist_rotate": (80.0, 2.6, 0.02),
}
_FINGER_SERVO = (900.0, 32.0, 0.25)
_DARK = "0.16 0.17 0.19 1"
_FINGER_COLOUR = "0.93 0.78 0.12 1"

_WORLD = f"""
<mujoco model="rewact_pick_place">
  <option timestep="0.0025" integrator="implicitfast" cone="elliptic" impratio="10"
          iterations="100" ls_iterations="50"/>
  <visual>
    <global offwidth="1280" offheight="960"/>
    <quality offsamples="0" shadowsize="0"/>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <worldbody>
    <light castshadow="false" directional="true" diffuse="0.45 0.45 0.45" specular="0 0 0"
           pos="0.5 -1 2" dir="-0.2 0.5 -1"/>
    <geom name="floor" type="plane" pos="0 0 -0.6" size="3 3 0.1" rgba="0.33 0.36 0.40 1"/>
    <geom name="table" type="box" size="0.5 0.5 0.03" pos="0.25 0 -0.03" rgba="0.80 0.78 0.74 1"
          friction="0.9 0.01 0.001"/>
    <camera name="front" pos="0.86 0.045 0.62" xyaxes="0 1 0 -0.736 0 0.677" fovy="39"/>
    <body name="tray" mocap="true">
      <geom name="tray/floor" type="box" size="0.074 0.074 0.002" pos="0 0 0.002"
            rgba="0.10 0.28 0.75 1"/>
      <geom name="tray/left" type="box" size="0.074 0.002 0.015" pos="0 0.072 0.015"
            rgba="0.16 0.40 0.95 1"/>
      <geom name="tray/right" type="box" size="0.074 0.002 0.015" pos="0 -0.072 0.015"
            rgba="0.16 0.40 0.95 1"/>
      <geom name="tray/far" type="box" size="0.002 0.074 0.015" pos="0.072 0 0.015"
            rgba="0.16 0.40 0.95 1"/>
      <geom name="tray/near" type="box" size="0.002 0.074 0.015" pos="-0.072 0 0.015"
            rgba="0.16 0.40 0.95 1"/>
    </body>
    <body name="cube">
      <freejoint name="cube"/>
      <geom name="cube" type="box" size="{CUBE_HALF_M} {CUBE_HALF_M} {CUBE_HALF_M}" mass="0.06"
            condim="4" friction="1.2 0.02 0.001" solref="0.006 1" rgba="0.88 0.10 0.10 1"/>
    </body>
  </worldbody>
  <actuator/>
</mujoco>
"""


def asset_dir() -> Path:
    """Return the folder of the gym-aloha wheel that holds the ViperX-300s MJCF and meshes.

    Raises:
        SimulationUnavailableError: gym-aloha is not installed or lacks the files.
    """
    # find_spec does not run gym_aloha's __init__, which would need dm_control.
    spec = importlib.util.find_spec("gym_aloha")
    mend = "Mend: pip install --no-deps gym-aloha==0.1.5"
    if spec is None or spec.origin is None:
        raise SimulationUnavailableError(f"gym-aloha (ViperX-300s model) is not installed. {mend}")
    folder = Path(spec.origin).parent / "assets"
    for name in ("vx300s_left.xml", "vx300s_dependencies.xml"):
        if not (folder / name).is_file():
            raise SimulationUnavailableError(f"gym-aloha lacks {folder / name}. {mend}")
    return folder


def build_xml() -> str:
    """Return the scene as MJCF text that refers to the meshes in gym-aloha's wheel.

    Raises:
        SimulationUnavailableError: as for `asset_dir`.
    """
    assets = asset_dir()
    root = ET.fromstring(_WORLD)
    dependencies = ET.parse(assets / "vx300s_dependencies.xml").getroot()
    root.extend(dependencies.findall("asset"))
    ET.SubElement(root, "compiler", angle="radian", meshdir=str(assets))
    arm = ET.parse(assets / "vx300s_left.xml").getroot().find("body")
    if arm is None:
        raise ValueError(f"{assets / 'vx300s_left.xml'}: no <body> found")
    _fit_arm(arm)
    root.find("worldbody").append(arm)  # type: ignore[union-attr]
    _add_servos(root.find("actuator"))  # type: ignore[arg-type]
    return ET.tostring(root, encoding="unicode")


def _fit_arm(arm: ET.Element) -> None:
    """Change the wheel's left arm of a pair into a stand-alone servo arm at the origin."""
    arm.set("pos", "0 0 0")
    for body in arm.iter("body"):
        body.set("gravcomp", "1")
        for child in list(body):
            if child.tag in ("site", "camera"):  # aids of the original two-arm scene
                body.remove(child)
    for geom in arm.iter("geom"):
        finger = "finger" in geom.get("mesh", "")
        for key in ("condim", "solimp", "solref", "friction"):
            geom.attrib.pop(key, None)
        geom.attrib.update(contype="0", conaffinity="0", group="2")
        geom.set("rgba", _FINGER_COLOUR if finger else _DARK)
    for joint in arm.iter("joint"):
        joint.attrib.pop("frictionloss", None)
        name = joint.get("name", "").removeprefix(ARM)
        joint.set("armature", str(_SERVOS.get(name, _FINGER_SERVO)[2]))
    for body in arm.iter("body"):
        name = body.get("name", "").removeprefix(ARM)
        if name in ("left_finger_link", "right_finger_link"):
            side = 1 if name.startswith("left") else -1
            limits = sorted((side * FINGER_CLOSED_M, side * FINGER_OPEN_M))
            body.find("joint").set("range", f"{limits[0]} {limits[1]}")  # type: ignore[union-attr]
            body.append(_pad(name.removesuffix("_finger_link"), side))
        elif name == "gripper_link":
            body.append(_palm())
            # Looks past the fingers at the spot between their tips, from the outer side.
            body.append(
                ET.Element(
                    "camera", name="wrist", pos="-0.01 0 0.105", xyaxes="0 -1 0 0.36 0 1", fovy="62"
                )
            )


def _pad(side_name: str, side: int) -> ET.Element:
    """Collision box of one finger's last 3.6 cm; inner faces stay 1 mm apart when closed."""
    return ET.Element(
        "geom",
        name=f"pad/{side_name}",
        type="box",
        size="0.018 0.004 0.011",
        pos=f"0.067 {side * -0.0165} 0",
        condim="4",
        friction="1.5 0.03 0.001",
        solref="0.006 1",
        group="4",
        mass="0.001",
    )


def _palm() -> ET.Element:
    """Collision box of the gripper's bar, so that it cannot pass through cube, tray or table."""
    return ET.Element(
        "geom",
        name="pad/palm",
        type="box",
        size="0.028 0.072 0.03",
        pos="0.045 0 0",
        group="4",
        mass="0.001",
    )


def _add_servos(actuators: ET.Element) -> None:
    for name, (kp, kv, _) in _SERVOS.items():
        ET.SubElement(
            actuators, "position", name=name, joint=ARM + name, kp=str(kp), kv=str(kv)
        ).set("inheritrange", "1")
    kp, kv, _ = _FINGER_SERVO
    for name in ("left_finger", "right_finger"):
        ET.SubElement(
            actuators, "position", name=name, joint=ARM + name, kp=str(kp), kv=str(kv)
        ).attrib.update(inheritrange="1", forcerange="-25 25")
