"""A strategy for LeRobot's roll-outs that judges each episode live, ends it, and keeps the verdict.

LeRobot's registry of strategies is open, but what makes one of a name is not
(``lerobot/rollout/strategies/factory.py`` of 0.6 knows its own five): ``rewact-rollout`` makes this
one, and all others as ``lerobot-rollout`` does.
"""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.rollout import EpisodicStrategy, EpisodicStrategyConfig, RolloutContext
from lerobot.rollout.configs import RolloutStrategyConfig
from lerobot.utils.constants import OBS_STATE, OBS_STR
from lerobot.utils.feature_utils import build_dataset_frame

from rewact_ros.policy.checkpoint_files import WEIGHTS, weights_version
from rewact_ros.reward.judges import JudgeSettings
from rewact_ros.supervision.verdict import Outcome, Termination, Verdict

from .judge import EpisodeJudge, EpisodeJudgement
from .looking import Looking
from .verdicts import VerdictFile

logger = logging.getLogger(__name__)
_TOLD_S = 1.0  # between two lines of progress


@RolloutStrategyConfig.register_subclass("rewact")
@dataclass
class RewACTStrategyConfig(EpisodicStrategyConfig):
    """`--strategy.type=rewact`: LeRobot's episodic strategy, and a judge.

    Attributes:
        judge: checkpoint folder that scores; empty: that of the policy.
        calibration: file of thresholds; empty: calibration.json in the judge's folder.
        contract: file of the robot's contract; empty: the one in the judge's folder.
        alarm_s: how long an alarm stands before the episode ends.
        judge_device: where the judge runs.
    """

    judge: str = ""
    calibration: str = ""
    contract: str = ""
    alarm_s: float = 1.0
    judge_device: str = "auto"


class RewACTStrategy(EpisodicStrategy):
    """Records episodes as LeRobot's episodic strategy does, and ends each at its verdict."""

    config: RewACTStrategyConfig

    def __init__(self, config: RewACTStrategyConfig) -> None:
        super().__init__(config)
        self._judge: EpisodeJudge | None = None
        self._looking: Looking | None = None
        self._verdicts: VerdictFile | None = None
        self._now: EpisodeJudgement | None = None
        self._told_s = -math.inf

    def setup(self, ctx: RolloutContext) -> None:
        """Open the judge, before anything moves; the rest is LeRobot's."""
        self._ctx, cfg, config = ctx, ctx.runtime.cfg, self.config
        policy = Path(str(cfg.policy.pretrained_path))
        driver = weights_version(policy) if (policy / WEIGHTS).is_file() else ""
        folder = config.judge or policy
        self._judge = judge = EpisodeJudge.open(
            folder,
            config.contract or None,
            config.calibration,
            instruction=cfg.dataset.single_task or cfg.task,
            driver=driver,
            rate_hz=float(cfg.fps),
            timeout_s=float(cfg.dataset.episode_time_s),
            alarm_s=config.alarm_s,
            settings=JudgeSettings(config.judge_device, threads=None),
        )
        judge.require_names(_state_names(ctx))
        logger.info("Judge %s (%s): %s", judge.version, judge.description, judge.bound)
        self._looking = Looking(judge)
        self._verdicts = VerdictFile(
            Path(ctx.data.dataset.root),
            {
                "policy": {"path": policy.name, "version": driver},
                "judge": {
                    "path": Path(folder).name,
                    "version": judge.version,
                    "reward_hash": judge.reward_hash,
                    "bound": judge.bound,
                },
                "settings": {"limit_s": judge.timeout_s, "rate_hz": float(cfg.fps)},
            },
        )
        super().setup(ctx)

    def _policy_loop(self, ctx: RolloutContext, **named: Any) -> None:
        """One episode, judged from its first observation on."""
        assert self._judge and self._looking and self._verdicts and self._events is not None
        self._looking.begin()
        self._now, self._told_s, began_s = None, -math.inf, time.monotonic()
        super()._policy_loop(ctx=ctx, **named)
        length_s = time.monotonic() - began_s
        verdict = None if self._now is None else self._now.verdict
        if verdict is not None:
            self._events["exit_early"] = False  # where the time was over as well
        elif length_s >= named["control_time_s"]:
            verdict = self._judge.time_out(time.monotonic())
        else:
            verdict = Verdict(Outcome.UNLABELLED, Termination.CANCELLED, "ended by hand", "person")
        index = ctx.data.dataset.num_episodes
        outcome = verdict.outcome.name.lower()
        logger.info("Episode %d: %s, %s; %s", index, outcome, verdict.reason, self._judge.bound)
        self._verdicts.keep(index, verdict, length_s)

    def _process_observation_and_notify(self, processors: Any, obs_raw: dict[str, Any]) -> Any:
        """Show the judge what the policy sees, and end the episode at its verdict."""
        assert self._judge and self._looking and self._events is not None
        fresh = self._cached_obs_processed is None or self._interpolator.needs_new_action()
        seen = super()._process_observation_and_notify(processors, obs_raw)
        now_s = time.monotonic()
        if fresh:
            frame = build_dataset_frame(self._ctx.data.dataset_features, seen, prefix=OBS_STR)
            renamed = self._ctx.runtime.cfg.rename_map
            self._looking.show({renamed.get(k, k): v for k, v in frame.items()}, now_s)
        if self._now is None or self._now.verdict is None:
            self._now = self._judge.judge(now_s)
            self._events["exit_early"] |= self._now.verdict is not None
            if now_s - self._told_s >= _TOLD_S:
                self._told_s = now_s
                alarms = ", ".join(sorted(self._now.alarms)) or "none"
                logger.info("progress %s, alarms: %s", self._now.progress_text, alarms)
        return seen

    def teardown(self, ctx: RolloutContext) -> None:
        """Stop looking; the verdicts of episodes that were not kept go."""
        if self._looking is not None:
            self._looking.end()
        if self._verdicts is not None:
            self._verdicts.only(ctx.data.dataset.num_episodes)
        super().teardown(ctx)


def _state_names(ctx: RolloutContext) -> list[str]:
    """Joints of the state as LeRobot has them, in order."""
    return list(ctx.data.dataset_features.get(OBS_STATE, {}).get("names") or [])
