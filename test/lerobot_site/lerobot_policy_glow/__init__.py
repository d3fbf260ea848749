"""A LeRobot reward-model plug-in: LeRobot finds plug-ins of rewards by a policy's prefix, too."""

from .configuration_glow import GlowConfig

__all__ = ["GlowConfig"]
