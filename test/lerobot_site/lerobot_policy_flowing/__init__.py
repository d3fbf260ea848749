"""A LeRobot policy plug-in that denoises its chunks, as SmolVLA and the pi0 family do."""

from .configuration_flowing import FlowingConfig

__all__ = ["FlowingConfig"]
