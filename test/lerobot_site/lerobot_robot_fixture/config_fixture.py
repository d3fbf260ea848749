"""Configurations of the plug-in, as a user's file gives them."""

from dataclasses import dataclass

from lerobot.robots import RobotConfig
from lerobot.teleoperators import TeleoperatorConfig


@RobotConfig.register_subclass("fixture_arm")
@dataclass
class FixtureArmConfig(RobotConfig):
    """`folder` gets `log`; a file `fail` in it lets reads fail. `port` "gone" does not open."""

    folder: str
    port: str = "there"
    calibrated: bool = True
    asks: bool = False
    max_relative_target: float | None = None


@TeleoperatorConfig.register_subclass("fixture_leader")
@dataclass
class FixtureLeaderConfig(TeleoperatorConfig):
    """`folder` gets `log`; its file `pose` has the joints as JSON."""

    folder: str
