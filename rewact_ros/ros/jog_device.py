"""Devices of twists or poses that jog a tool: SpaceMouse, phone, VR controller."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from rclpy.node import Node

from rewact_ros.contract import SampleError
from rewact_ros.contract.schema import Jog
from rewact_ros.contract.state_values import POSE, TWIST
from rewact_ros.control.jog import FloatArray, JogInput, JoyError, Pose, twist_rates
from rewact_ros.kinematics import pose_error
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import read_pose
from rewact_ros.ros.convert import twist_numbers
from rewact_ros.rotations import rotations

# No hand moves its device further than this from one message to the next: another device, or a
# tracker that has lost it. Where messages are missing, a hand could be anywhere after a second;
# then the tool takes hold anew rather than go there.
STEP_M, HAND_M_S, STEP_RAD, HAND_RAD_S = 0.05, 2.0, 0.5, 6.0
LONGEST_STEP_S = 0.1
_MESSAGES = {TWIST: TwistStamped, "geometry_msgs/msg/Twist": Twist, POSE: PoseStamped}


class JogDeviceInput:
    """The newest message of a device.

    Args:
        node: that listens.
        jog: with a device.

    Attributes:
        reason: why it asks for nothing; "": it does.
    """

    def __init__(self, node: Node, jog: Jog) -> None:
        assert jog.device is not None
        self._node, self._jog, self._device = node, jog, jog.device
        self._rates: FloatArray = np.zeros(len(jog.directions))
        self._pose: Pose | None = None
        self._received_s = float("-inf")
        self._lost = False
        self.reason = "no input yet"
        node.create_subscription(
            _MESSAGES[self._device.type], self._device.topic, self._on_message, names.SENSOR
        )

    def _on_message(self, msg: Any) -> None:
        now_s = time.monotonic()
        try:
            if self._device.type == POSE:
                self._pose = self._read_pose(msg, now_s)
            else:
                self._rates = twist_rates(self._jog, twist_numbers(getattr(msg, "twist", msg)))
        except (JoyError, SampleError) as error:  # what is there gets old then
            self._node.get_logger().warning(str(error), throttle_duration_sec=2.0)
            return
        self._lost = self._lost or now_s - self._received_s > self._device.max_age_s
        self._received_s = now_s

    def _read_pose(self, msg: Any, now_s: float) -> Pose:
        values = np.array(read_pose(msg, "pose", self._device.topic)[1])
        if not np.isfinite(values).all():
            raise SampleError(f"{self._device.topic}: expected a finite pose, got {values}")
        pose, before = (values[:3], rotations(values[3:])), self._pose
        if before is not None:
            step = pose_error(before, pose)
            far_m, far_rad = np.linalg.norm(step[:3]), np.linalg.norm(step[3:])
            elapsed_s = min(now_s - self._received_s, LONGEST_STEP_S)
            if far_m > STEP_M + HAND_M_S * elapsed_s or far_rad > STEP_RAD + HAND_RAD_S * elapsed_s:
                # A silence, so that the tool takes hold anew where the device is now.
                self._pose, self._received_s = None, float("-inf")
                raise JoyError(
                    f"{self._device.topic}: the device jumped by {far_m:.2f} m and {far_rad:.2f} "
                    "rad; the robot does not follow that"
                )
        return pose

    def beside(self, joy: JogInput, now_s: float) -> JogInput | None:
        """What is asked for by the device and by the Joy that has its buttons; None: it is lost."""
        age_s = now_s - self._received_s
        self.reason = ""
        if age_s > self._device.max_age_s:
            said = f"is silent for {age_s:.2f} s" if np.isfinite(age_s) else "has not spoken"
            self.reason = f"device {self._device.topic} {said}"
            return None
        if self._lost:  # however soon it spoke again: the tool takes hold anew
            self._lost = False
            self.reason = f"device {self._device.topic} was lost"
            return None
        return replace(joy, rates=np.clip(joy.rates + self._rates, -1.0, 1.0), pose=self._pose)
