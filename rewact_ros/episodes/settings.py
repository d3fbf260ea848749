"""How episodes in simulation are driven, helped and ended."""

import math
from dataclasses import dataclass, field

from rewact_ros.settings import check, same, setting
from rewact_ros.sim.human import Traits
from rewact_ros.supervision.alarms import limit_setting
from rewact_ros.supervision.escalation import Ladder
from rewact_ros.supervision.monitor import Thresholds


@dataclass(frozen=True)
class RolloutSettings:
    """How an episode is driven and disturbed.

    Attributes:
        combine: as ``ChunkQueue``.
        action_noise_rad: standard deviation, so large that a good policy fails too.
        push_n: force that pushes the task's object sideways, at a time drawn by seed.

    Raises:
        ValueError: a number out of range.
    """

    replan_steps: int = setting(1, "observations per inference", low=1, high=1000)
    combine: str = setting("ensemble", "overlapping chunks: ensemble or replace")
    latency_s: float = setting(0.02, "from observation to chunk", "s", 0, 1)
    limit_s: float = setting(20.0, "time-out of a simulated episode", "s", 1, 3600)
    # Of another kind than a ladder's: what lies where it should may still roll away.
    hold_s: float = setting(0.5, "how long success must last before an episode ends", "s", 0, 3600)
    action_noise_rad: float = setting(
        0.0,
        "smooth noise on the simulated arm's commands",
        "rad",
        0,
        0.5,
        option="action_noise",
    )
    push_n: float = setting(0.0, "push the task's object for 0.1 s", "N", 0, 100, option="push")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class HelpSettings:
    """When help is called, and how an episode ends.

    Attributes:
        completion: level of progress that counts as done.
        stall_s, drawdown: of the learned progress, above which a human is called.
        human: how the human differs from a machine.

    Raises:
        ValueError: a number out of range.
    """

    completion: float = same(Thresholds, "completion")
    # Sooner than on a robot, where a call costs a person's time: corrections are to be collected.
    stall_s: float = limit_setting("stall", default=3.0, low=0, high=math.inf)
    drawdown: float = limit_setting("drawdown", default=0.3, low=0, high=math.inf)
    hold_s: float = same(Ladder, "hold_s", default=0.5)
    limit_s: float = same(
        RolloutSettings,
        "limit_s",
        doc="time-out, of the time in which nobody helps",
        low=0,
        high=math.inf,
    )
    latency_s: float = same(RolloutSettings, "latency_s", high=math.inf)
    human: Traits = field(default_factory=Traits)

    def __post_init__(self) -> None:
        check(self)
