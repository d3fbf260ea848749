"""RewACT: LeRobot's ACT with a reward head, as a LeRobot policy plug-in of type ``rewact``.

``lerobot-train --policy.discover_packages_path=rewact_ros.policy --policy.type=rewact`` finds it by
name; importing this package registers the type.
"""

from .configuration_rewact import RewACTConfig
from .modeling_rewact import RewACTPolicy
from .processor_rewact import make_rewact_pre_post_processors

__all__ = ["RewACTConfig", "RewACTPolicy", "make_rewact_pre_post_processors"]
