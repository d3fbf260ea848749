"""A LeRobot plug-in without hardware: an arm and a leader that write down what becomes of them."""

from .config_fixture import FixtureArmConfig, FixtureLeaderConfig
from .fixture_devices import FixtureArm, FixtureLeader

__all__ = ["FixtureArm", "FixtureArmConfig", "FixtureLeader", "FixtureLeaderConfig"]
