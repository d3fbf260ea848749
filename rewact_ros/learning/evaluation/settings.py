"""What a policy is judged, and a monitor calibrated, on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rewact_ros.settings import check, setting


@dataclass(frozen=True)
class EvaluationSettings:
    """What to judge a policy on.

    Attributes:
        dataset: a LeRobotDataset.
        train_episodes: as ``episodes``; empty: all of another dataset, and of the same none, so
            that there are no baselines.
        cache: of decoded frames; None: the usual.
    """

    dataset: Path
    episodes: str = setting("", "such as 24:30; empty: all")
    train_dataset: Path | None = setting(None, "where the reward's baselines are fitted")
    train_episodes: str = setting(
        "", "of it, or of --dataset: episodes for the baselines, e.g. 0:24"
    )
    progress_ramp: bool = setting(False, "label a dataset without labels by time")
    ablations: bool = setting(True, "also spoil one input at a time")
    cache: Path | None = None


@dataclass(frozen=True)
class RolloutSource:
    """Recorded roll-outs.

    Attributes:
        dataset: a LeRobotDataset with ``next.success`` per frame, such as `rewact eval --record`
            writes; what it says itself stands in `meta/rollouts.json`.
        cache: of decoded frames; None: the usual.

    Raises:
        ValueError: a time-out below 0.
    """

    dataset: Path
    episodes: str = setting("", "such as 0:100; empty: all")
    timeout_s: float = setting(
        0.0, "of the roll-outs; 0: as the dataset says", "s", low=0, option="timeout"
    )
    driver: str = setting("", "version that drove; empty: as the dataset says")
    cache: Path | None = None

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class EnvSettings:
    """How a policy meets a Gymnasium environment.

    Attributes:
        mapping: policy input → where the environment shows it: a key of the flattened observation,
            a part of a vector such as ``observation[0:4]``, or ``render``, the rendered picture.

    Raises:
        ValueError: a number out of range, or a list of numbers that is none.
    """

    max_steps: int = setting(0, "of an episode in --env; 0: its own limit", low=0)
    success_key: str = setting(
        "", "what --env calls success in its info; empty: is_success, success or succeed"
    )
    text: str = setting("", "what there is to do in --env, for a policy that reads it")
    action_scale: str = setting(
        "1", "units of --env in one of the policy's actions: a number, or one a component: 1,1,0.04"
    )
    action_offset: str = setting("0", "added to the scaled action, likewise")
    control_hz: float = setting(
        0.0, "actions a second in --env, which gets each as often; 0: one a step", "Hz", 0, 1000
    )
    mapping: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)
        numbers("action_scale", self.action_scale)
        numbers("action_offset", self.action_offset)


def numbers(name: str, text: str) -> list[float]:
    """Finite numbers between commas.

    Raises:
        ValueError: anything else.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name}: expected numbers with commas, such as 1,1,0.04, got '{text}'")
    return values


def as_mapping(pairs: list[str]) -> dict[str, str]:
    """`FEATURE=KEY` each, as a mapping.

    Raises:
        ValueError: another form, or a feature named twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        feature, equals, key = pair.partition("=")
        if not (feature and equals and key) or feature in mapping:
            raise ValueError(
                f"--map {pair}: expected FEATURE=KEY, each feature once, such as "
                "observation.state=agent_pos"
            )
        mapping[feature] = key
    return mapping
