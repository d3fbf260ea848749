"""LeRobot's SARM (arXiv:2509.25358) as a judge: its network on the policy's own features.

SARM's processor encodes pictures and words with CLIP, whose weights come from a hub. What is
compared here is its way of judging, so it is given what our reward's neighbours have: the pooled
features of the policy, the joints, and the labels of the same demonstrations. Like in SARM, a
window of past frames is judged, training shows windows that run back, and the whole task is one
stage. Its training takes frames after the judged one, too; a robot does not have them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lerobot.rewards.sarm.configuration_sarm import SARMConfig
from lerobot.rewards.sarm.modeling_sarm import SARMRewardModel
from numpy.typing import NDArray
from tasks_recipe import SarmSettings
from torch import Tensor

_EVERY_S = 0.25  # between the frames of a window, which then has the length of a grasp
_LIKELY = 0.8  # share of windows that run back, as SARM has it
_BATCH, _RATE = 32, 3e-4


@dataclass(frozen=True)
class Seen:
    """One episode of N frames.

    Attributes:
        features: (N, D) float32, pooled, of the policy.
        state: (N, S) float32.
        progress: (N,) label; None where it is to be judged.
    """

    features: NDArray[np.float32]
    state: NDArray[np.float32]
    progress: NDArray[np.float32] | None = None


class Sarm:
    """SARM, trained on the frames of demonstrations.

    Args:
        demos: episodes with labels.
        settings: sizes and steps.
        rate_hz: of the episodes.
    """

    def __init__(self, demos: Sequence[Seen], settings: SarmSettings, rate_hz: float) -> None:
        self._gap = max(1, round(_EVERY_S * rate_hz))
        every = [np.concatenate(column) for column in zip(*map(_columns, demos), strict=True)]
        self._scales = [(x.mean(0), x.std(0) + 1e-2) for x in every[:2]]
        torch.manual_seed(settings.seed)
        self._model = SARMRewardModel(
            SARMConfig(
                image_dim=every[0].shape[1],
                text_dim=1,
                hidden_dim=settings.hidden,
                num_heads=settings.heads,
                num_layers=settings.layers,
                max_state_dim=every[1].shape[1],
                device="cpu",
            )
        )
        self._past, self._back = self._model.config.n_obs_steps, self._model.config.max_rewind_steps
        self._train(demos, settings)

    def _train(self, demos: Sequence[Seen], settings: SarmSettings) -> None:
        rng = np.random.default_rng(settings.seed)
        optimizer = torch.optim.AdamW(self._model.parameters(), _RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        self._model.train()
        for _ in range(settings.steps):
            loss, _ = self._model(self._batch(demos, rng))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        self._model.eval()

    def _batch(self, demos: Sequence[Seen], rng: np.random.Generator) -> dict[str, Tensor]:
        """Windows that end at random frames, most of them with some frames back from there."""
        columns: list[tuple[NDArray[np.float32], ...]] = []
        lengths = []
        for demo in (demos[i] for i in rng.integers(len(demos), size=_BATCH)):
            end = int(rng.integers(len(demo.state)))
            back = int(rng.integers(1, self._back + 1)) if rng.random() < _LIKELY else 0
            rows = self._window(end) + [max(end - (k + 1) * self._gap, 0) for k in range(back)]
            lengths.append(len(rows))
            missing = ((0, self._past + 1 + self._back - len(rows)),)
            columns.append(
                tuple(np.pad(x[rows], (*missing, *((0, 0),) * (x.ndim - 1)))
                      for x in self._scaled(demo))
            )  # fmt: skip
        features, state, progress = (
            torch.from_numpy(np.stack(column)) for column in zip(*columns, strict=True)
        )
        return {
            "video_features": features,
            "state_features": state,
            "text_features": torch.zeros(_BATCH, 1),
            # SARM's integer part is the stage, so the last one's progress ends just below 1.
            "sparse_targets": progress.clamp(0, 1 - 1e-4),
            "lengths": torch.tensor(lengths),
        }

    def judge(self, episode: Seen) -> NDArray[np.float64]:
        """Progress (N,) of every frame, from it and those before."""
        windows = np.array([self._window(end) for end in range(len(episode.state))])
        features, state = (torch.from_numpy(x[windows]) for x in self._scaled(episode)[:2])
        text = torch.zeros(len(windows), 1)
        said = self._model.calculate_rewards(text, features, state, frame_index=self._past)
        return np.asarray(said, np.float64)

    def _window(self, end: int) -> list[int]:
        """Frames up to `end`; the first stands for those before it."""
        return [max(end - k * self._gap, 0) for k in range(self._past, -1, -1)]

    def _scaled(self, seen: Seen) -> tuple[NDArray[np.float32], ...]:
        columns = _columns(seen)
        pairs = zip(columns, self._scales, strict=False)
        scaled = [((x - mean) / spread).astype(np.float32) for x, (mean, spread) in pairs]
        return (*scaled, *columns[len(scaled) :])


def _columns(seen: Seen) -> tuple[NDArray[np.float32], ...]:
    labels = () if seen.progress is None else (seen.progress,)
    return (seen.features, seen.state, *labels)
