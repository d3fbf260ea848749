"""`rewact-rollout`: `lerobot-rollout` with one strategy more, `--strategy.type=rewact`.

All arguments are LeRobot's. Only the last step differs from ``lerobot.scripts.lerobot_rollout``:
which strategy a name makes.
"""

import logging

from lerobot.configs import parser
from lerobot.rollout import RolloutConfig, build_rollout_context, create_strategy

# Registers LeRobot's own robots, cameras and teleoperators, and says how to use them.
from lerobot.scripts import lerobot_rollout
from lerobot.utils.process import ProcessSignalHandler
from lerobot.utils.utils import init_logging
from lerobot.utils.visualization_utils import init_visualization, shutdown_visualization

from rewact_ros.policy.configuration_rewact import RewACTConfig
from rewact_ros.policy.open_lerobot import register_plugins

from .lerobot_strategy import RewACTStrategy, RewACTStrategyConfig

OF_THE_REGISTRIES = (lerobot_rollout, RewACTConfig)
logger = logging.getLogger(__name__)


@parser.wrap()  # type: ignore[untyped-decorator]
def rollout(cfg: RolloutConfig) -> None:
    """As LeRobot's function of this name, which cannot make a strategy of others."""
    init_logging()
    if cfg.display_data:
        init_visualization(
            cfg.display_mode, session_name="rollout", ip=cfg.display_ip, port=cfg.display_port
        )
    shutdown = ProcessSignalHandler(use_threads=True, display_pid=False).shutdown_event
    ctx = build_rollout_context(cfg, shutdown)
    judged = isinstance(cfg.strategy, RewACTStrategyConfig)
    strategy = RewACTStrategy(cfg.strategy) if judged else create_strategy(cfg.strategy)
    logger.info("Rollout strategy: %s", cfg.strategy.type)
    try:
        strategy.setup(ctx)
        strategy.run(ctx)
    except KeyboardInterrupt:
        logger.info("Interrupted by user")
    finally:
        strategy.teardown(ctx)
        if cfg.display_data:
            shutdown_visualization(cfg.display_mode)


def main() -> None:
    """Entry point."""
    register_plugins()
    rollout()


if __name__ == "__main__":
    main()
