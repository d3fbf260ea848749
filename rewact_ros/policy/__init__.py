"""RewACT: LeRobot's ACT with a reward head, as a LeRobot policy plug-in of type ``rewact``.

``lerobot-train --policy.discover_packages_path=rewact_ros.policy --policy.type=rewact`` finds it by
name: LeRobot imports every module of this package, and the configuration's registers the type.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_rewact import RewACTConfig
    from .modeling_rewact import RewACTPolicy
    from .processor_rewact import make_rewact_pre_post_processors

__all__ = ["RewACTConfig", "RewACTPolicy", "make_rewact_pre_post_processors"]


def __getattr__(name: str) -> Any:
    """The plug-in needs LeRobot and PyTorch; a checkpoint's files are read without them."""
    from importlib import import_module

    homes = zip(__all__, ("configuration", "modeling", "processor"), strict=True)
    for offered, home in homes:
        if name == offered:
            return getattr(import_module(f"{__name__}.{home}_rewact"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
