"""A LeRobot policy plug-in: another policy of ours, as slow as wanted."""

from .configuration_late import LateConfig

__all__ = ["LateConfig"]
