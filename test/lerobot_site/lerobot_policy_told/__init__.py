"""A LeRobot policy plug-in that is told by a text what to do."""

from .configuration_told import ToldConfig

__all__ = ["ToldConfig"]
