"""Teach a policy's reward what failure looks like, from verdicts; its actions stay bit for bit.

Only the last layers of the reward learn. What they see of a frame is fixed, so that a frame goes
through the network once, and a step costs a millisecond.
"""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

from rewact_ros.policy import RewACTPolicy
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy, save_policy

from .demonstrations import Demonstrations, load_demonstrations
from .judged import judged_labels, load_judged, verdicts
from .origin import ORIGIN, acts_as, identities, origin_text, taught_episodes
from .policy_settings import require_features
from .reward_inputs import reward_inputs
from .reward_only_settings import RewardOnlySettings
from .settings import TrainError

_WEIGHT_DECAY = 1e-4  # as of the whole policy's training


@dataclass(frozen=True)
class _Lesson:
    """Episodes of one dataset that teach the reward.

    Attributes:
        data: the dataset.
        episodes: of it.
        labels: (N,) progress of all its frames, NaN where it teaches nothing.
        failures: (N,) bool, frames of failures.
    """

    data: Demonstrations
    episodes: list[int]
    labels: NDArray[np.float32]
    failures: NDArray[np.bool_]


def train_reward(
    settings: RewardOnlySettings, cache: Path | None = None, show_progress: bool = True
) -> dict[str, float]:
    """Train the reward alone and write the new checkpoint to ``settings.out``.

    Returns:
        how many ``successes`` and ``failures`` were judged, ``frames`` of them and of the
        demonstrations, and the ``loss`` of the last steps.

    Raises:
        TrainError: a policy without a reward head, no failure among the roll-outs, datasets of
            another robot, or a loss that is not finite.
        CheckpointError, DatasetError, FramesError: the policy or a dataset cannot be used.
    """
    begun = time.monotonic()
    torch.set_num_threads(settings.threads)
    loaded = load_policy(settings.policy, settings.device)
    lessons = _lessons(settings, loaded)
    failed = sum(len(np.unique(lesson.data.episode[lesson.failures])) for lesson in lessons)
    inputs, labels, failures = _frames(lessons, loaded, cache, show_progress)
    loss = _fit(_policy(loaded), inputs, labels, failures, settings, show_progress)
    figures = {
        "successes": float(sum(len(lesson.episodes) for lesson in lessons[1:]) - failed),
        "failures": float(failed),
        "frames": float(len(labels)),
        "loss": loss,
    }
    _save(settings, loaded, lessons, figures, time.monotonic() - begun)
    return figures


def _lessons(settings: RewardOnlySettings, loaded: LoadedPolicy) -> list[_Lesson]:
    """The demonstrations first, then what was judged."""
    config = _policy(loaded).config
    demos = load_demonstrations(Path(settings.demos))
    require_features(config, demos, settings.policy)
    demos.require_labels(np.arange(len(demos.episode)), config.value_min, config.value_max)
    every = list(range(demos.source.meta.total_episodes))
    lessons = [_Lesson(demos, every, demos.reward, np.zeros(len(demos.reward), bool))]
    for folder in settings.judged:
        data = load_judged(Path(folder), demos)
        found = verdicts(data)
        failed = [index for index, success in found.items() if not success]
        labels = judged_labels(data, found, config.value_min, config.value_max)
        lessons.append(_Lesson(data, list(found), labels, np.isin(data.episode, failed)))
    if not any(lesson.failures.any() for lesson in lessons):
        raise TrainError(
            f"{', '.join(settings.judged)}: expected failures among the judged roll-outs, got "
            f"{sum(len(lesson.episodes) for lesson in lessons[1:])} successes and none; record more"
        )
    return lessons


def _frames(
    lessons: Sequence[_Lesson],
    loaded: LoadedPolicy,
    cache: Path | None,
    show_progress: bool,
) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """What the head sees (M, dim), what it is to say (M,), and which belong to failures (M,)."""
    inputs, labels, failures = [], [], []
    for lesson in lessons:
        lesson.data.decode(loaded.config.image_size, lesson.episodes, cache, show_progress)
        rows = lesson.data.rows(lesson.episodes)
        rows = rows[np.isfinite(lesson.labels[rows])]
        if len(rows):
            seen = loaded.preprocessor, lesson.data, rows, show_progress
            inputs.append(reward_inputs(_policy(loaded), *seen))
            labels.append(torch.from_numpy(lesson.labels[rows]))
            failures.append(lesson.failures[rows])
    return torch.cat(inputs), torch.cat(labels), np.concatenate(failures)


def _fit(
    policy: RewACTPolicy,
    inputs: Tensor,
    labels: Tensor,
    failures: NDArray[np.bool_],
    settings: RewardOnlySettings,
    show_progress: bool,
) -> float:
    """Train the reward's last layers; every batch has its share of failures. Returns the loss."""
    assert policy.reward is not None  # a head is what was asked for
    head, device = policy.reward_layers, policy.config.device
    policy.requires_grad_(False)
    head.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.lr, weight_decay=_WEIGHT_DECAY)
    scheduler = CosineAnnealingLR(optimizer, settings.steps)
    pools = np.flatnonzero(~failures), np.flatnonzero(failures)
    few = max(round(settings.batch_size * settings.failure_share), 1)
    counts = settings.batch_size - few, few
    rng, loss = np.random.default_rng(settings.seed), torch.zeros(())
    for step in tqdm(range(settings.steps), "reward", mininterval=1, disable=not show_progress):
        rows = torch.from_numpy(
            np.concatenate([rng.choice(p, n) for p, n in zip(pools, counts, strict=True)])
        )
        raw = head(inputs[rows].to(device))
        loss = policy.reward.loss(raw, labels[rows].to(device)).mean()
        if not torch.isfinite(loss):
            raise TrainError(f"step {step}: loss is {loss.item()}; lower --lr")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return loss.item()


def _save(
    settings: RewardOnlySettings,
    loaded: LoadedPolicy,
    lessons: Sequence[_Lesson],
    figures: dict[str, float],
    wall_s: float,
) -> None:
    taught = taught_episodes(loaded.path)
    for lesson in lessons:
        taught |= identities(lesson.data, lesson.episodes)
    record = {
        "command": shlex.join(["rewact", *sys.argv[1:]]),
        "settings": asdict(settings),
        "figures": figures,
        "wall_s": round(wall_s, 1),
        "torch": torch.__version__,
    }
    versions = [loaded.version, *acts_as(loaded.path)]
    files = {
        "training.json": json.dumps(record, indent=2) + "\n",
        ORIGIN: origin_text(taught, versions),
    }
    parts = loaded.policy, loaded.preprocessor, loaded.postprocessor, loaded.contract
    save_policy(settings.out, *parts, files)


def _policy(loaded: LoadedPolicy) -> RewACTPolicy:
    """The policy, of which only one with a reward head will do.

    Raises:
        TrainError: it has none.
    """
    policy = loaded.policy
    if not isinstance(policy, RewACTPolicy) or policy.reward is None:
        raise TrainError(f"{loaded.path}: has no reward head to train; take one that has")
    return policy
