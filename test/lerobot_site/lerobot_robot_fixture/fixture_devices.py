"""The devices: they have motors in LeRobot's units, and an arm has a picture of its first joint."""

import json
from pathlib import Path

import numpy as np
from lerobot.motors import Motor, MotorNormMode
from lerobot.robots import Robot
from lerobot.teleoperators import Teleoperator

from .config_fixture import FixtureArmConfig, FixtureLeaderConfig

UNITS = {
    "shoulder_pan": MotorNormMode.DEGREES,
    "elbow_flex": MotorNormMode.DEGREES,
    "gripper": MotorNormMode.RANGE_0_100,
}
SHAPE = (24, 32, 3)


class _Bus:
    def __init__(self):
        units = enumerate(UNITS.items())
        self.motors = {name: Motor(i, "sts3215", mode) for i, (name, mode) in units}


class _Device:
    """What both share: a log of all that happens."""

    def _begin(self, config):
        self.config, self.bus, self._connected = config, _Bus(), False

    def _log(self, line):
        with Path(self.config.folder, "log").open("a") as file:
            print(line, file=file)

    @property
    def is_connected(self):
        return self._connected

    @property
    def is_calibrated(self):
        return getattr(self.config, "calibrated", True)

    def calibrate(self):
        self._log("calibrate")

    def configure(self):
        pass

    def connect(self, calibrate=True):
        if getattr(self.config, "port", "") == "gone":
            raise ConnectionError(f"Could not connect on port '{self.config.port}'.")
        if getattr(self.config, "asks", False):
            input("Press ENTER")
        self._connected = True
        self._log("connect")
        if calibrate:
            self.calibrate()

    def disconnect(self):
        self._connected = False
        self._log("disconnect")


class FixtureArm(_Device, Robot):
    """Is at once where it is commanded to be."""

    config_class, name = FixtureArmConfig, "fixture_arm"

    def __init__(self, config):
        super().__init__(config)
        self._begin(config)
        self.at = {"shoulder_pan.pos": 9.0, "elbow_flex.pos": -18.0, "gripper.pos": 50.0}

    @property
    def observation_features(self):
        return {**self.action_features, "front": SHAPE, "temperature": float}

    @property
    def action_features(self):
        return {f"{motor}.pos": float for motor in UNITS}

    def get_observation(self):
        if Path(self.config.folder, "fail").exists():
            raise ConnectionError("no status packet")
        grey = int(128 + self.at["shoulder_pan.pos"])
        return {**self.at, "front": np.full(SHAPE, grey, np.uint8), "temperature": 30.0}

    def send_action(self, action):
        most = self.config.max_relative_target or 1e9
        sent = {
            f: self.at[f] + float(np.clip(v - self.at[f], -most, most)) for f, v in action.items()
        }
        self.at.update(sent)
        return sent


class FixtureLeader(_Device, Teleoperator):
    """Is where its file says; goes nowhere by feedback, but writes it down."""

    config_class, name = FixtureLeaderConfig, "fixture_leader"

    def __init__(self, config):
        super().__init__(config)
        self._begin(config)

    @property
    def action_features(self):
        return {f"{motor}.pos": float for motor in UNITS}

    @property
    def feedback_features(self):
        return self.action_features

    def get_action(self):
        return json.loads(Path(self.config.folder, "pose").read_text())

    def send_feedback(self, feedback):
        self._log(f"feedback {json.dumps(feedback)}")

    def enable_torque(self):
        self._log("torque on")

    def disable_torque(self):
        self._log("torque off")
