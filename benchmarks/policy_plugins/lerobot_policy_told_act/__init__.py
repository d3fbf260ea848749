"""A LeRobot policy plug-in: ACT that is told by a text what to do."""

from .configuration_told_act import ToldActConfig

__all__ = ["ToldActConfig"]
