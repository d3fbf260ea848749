"""Train the success classifier: class ratio, augmentation, early stopping."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import Accelerator
from accelerate.utils import gather_object
from lerobot.utils.constants import ACTION, OBS_STATE
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from rewact_ros.data.dataset.info import read_info
from rewact_ros.learning.acceleration import make_accelerator
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.learning.imitation.origin import ORIGIN, identities, origin_text, taught_episodes
from rewact_ros.learning.imitation.settings import TrainError
from rewact_ros.policy.images import jitter_brightness, random_shift
from rewact_ros.reward.classifier import ResNetRewardModel, RewardModelConfig
from rewact_ros.reward.classifier_checkpoint import load_classifier, save_classifier

from .calibration import calibrate, judge, log_loss
from .frames import Frames, LabelledFrames
from .settings import ClassifierSettings

# Frames that early stopping looks at; all of a large split would cost more than the training.
_VAL_FRAMES = 2000
_EVAL_BATCH = 64  # memory against speed, the logits are the same


def train_classifier(
    settings: ClassifierSettings, cache: Path | None = None, progress: bool = True
) -> dict[str, float]:
    """Train, calibrate, judge and save a classifier; the weights are those of the best look.

    Args:
        settings: the run.
        cache: folder of decoded frames (default `~/.cache/rewact_ros/frames`).
        progress: show progress bars.

    Returns:
        figures of the test split (see `judge`), of the calibrated probability; empty without one.

    Raises:
        TrainError: settings, labels or cameras that do not fit; a loss that is not finite.
        LabelError: a dataset without labels.
        ClassifierError: `init` does not open.
    """
    run = _Run(settings, cache, progress)
    run.fit()
    return run.finish()


class _Run:
    """A training run: what it is made of, its loop, and its end."""

    def __init__(self, settings: ClassifierSettings, cache: Path | None, progress: bool) -> None:
        self.settings, self.begun = settings, time.monotonic()
        self.accelerator = accelerator = make_accelerator(
            settings.device, settings.mixed_precision, settings.threads
        )
        self.main = accelerator.is_main_process
        self.progress = progress and self.main
        torch.manual_seed(settings.seed)
        start = load_classifier(settings.init, "cpu").model if settings.init else None
        self.data = LabelledFrames(
            [Path(root) for root in settings.datasets],
            start.config.cameras if start else settings.cameras,
            settings.margin,
            settings.val_fraction,
            settings.test_fraction,
            settings.seed,
        )
        model = start or ResNetRewardModel(
            RewardModelConfig(
                cameras=self.data.cameras,
                arch=settings.arch,
                image_size=settings.image_size or self.data.own_size(),
                hidden_dim=settings.hidden_dim,
                dropout=settings.dropout,
            )
        )
        self.config = model.config
        if settings.batch_size % accelerator.num_processes:
            raise TrainError(
                f"batch_size: expected a multiple of the {accelerator.num_processes} processes "
                f"that share it, got {settings.batch_size}"
            )
        with _first(accelerator):
            self.data.decode(self.config.image_size, cache, self.progress)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.best_step, self.step = math.inf, 0, 0

    def fit(self) -> None:
        """Optimise until the validation loss has stopped to fall, or to the last step."""
        settings, looks = self.settings, 0
        val = _thinned(self.data.splits["val"], _VAL_FRAMES)
        batches = balanced_batches(self.data.splits["train"], settings)
        with tqdm(total=settings.steps, unit="step", mininterval=1, disable=not self.progress) as b:
            for self.step in range(1, settings.steps + 1):
                loss = self._optimise(next(batches))
                b.update()
                if self.step % settings.eval_every and self.step < settings.steps:
                    continue
                val_loss = log_loss(self.logits(val), val.success)
                if self.progress:
                    b.write(f"step {self.step}: loss {loss:.4f}, validation {val_loss:.4f}")
                looks += 1
                if val_loss < self.best_loss - settings.min_delta:
                    self.best_loss, self.best_step, looks = val_loss, self.step, 0
                    # Every process calls: with FSDP each holds a part of the weights.
                    state = self.accelerator.get_state_dict(self.model)
                    self.best = {name: value.cpu().clone() for name, value in state.items()}
                if looks == settings.patience:
                    break

    def finish(self) -> dict[str, float]:
        """Calibrate on the validation split, judge on the test split, save."""
        if not self.main:
            self.accelerator.wait_for_everyone()
            return {}
        # A plain model from here on, whatever the training wrapped it in.
        model = ResNetRewardModel(self.config)
        model.load_state_dict(self.best)
        self.model = model.to(self.accelerator.device)
        val, test = self.data.splits["val"], self.data.splits["test"]
        temperature, offset = calibrate(self._own_logits(val), val.success)
        model.get_buffer("temperature").fill_(temperature)
        model.get_buffer("offset").fill_(offset)
        figures = {}
        if len(test):
            logits = torch.from_numpy(self._own_logits(test)).to(self.accelerator.device)
            figures = judge(model.calibrated(logits).cpu().numpy(), test.success)
        save_classifier(self.settings.out, model, self._record(figures), self._origin())
        self.accelerator.wait_for_everyone()
        return figures

    def logits(self, frames: Frames) -> NDArray[np.float32]:
        """Logits (N,) of some frames, shared between the processes."""
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        # All processes see as many frames, for with FSDP each forward needs every process.
        padded = np.resize(np.arange(len(frames)), math.ceil(len(frames) / processes) * processes)
        own = self._own_logits(frames.chosen(padded[process::processes]))
        parts = gather_object([own]) if processes > 1 else [own]
        return np.stack(parts, 1).reshape(-1)[: len(frames)]

    @torch.no_grad()
    def _own_logits(self, frames: Frames) -> NDArray[np.float32]:
        self.model.eval()
        device = self.accelerator.device
        parts = [
            self.model(self.data.images(frames.chosen(rows)).to(device)).float().cpu().numpy()
            for rows in np.split(
                np.arange(len(frames)), range(_EVAL_BATCH, len(frames), _EVAL_BATCH)
            )
        ]
        return np.concatenate(parts)

    def _optimise(self, batch: Frames) -> float:
        """One step on this process's share of a batch; returns its loss."""
        accelerator, settings = self.accelerator, self.settings
        own = batch.chosen(
            np.arange(len(batch))[accelerator.process_index :: accelerator.num_processes]
        )
        _seed_step(settings.seed, self.step, accelerator.process_index)
        images = augment(self.data.images(own).to(accelerator.device), settings)
        target = torch.from_numpy(own.success).to(accelerator.device, torch.float32)
        self.model.train()
        loss = F.binary_cross_entropy_with_logits(self.model(images).float(), target)
        if not torch.isfinite(loss):
            raise TrainError(
                f"step {self.step}: loss is {loss.item()}; lower lr, or use mixed_precision no"
            )
        self.optimizer.zero_grad()
        accelerator.backward(loss)
        # LeRobot's bound, so that one odd batch does not undo many.
        accelerator.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()
        return loss.item()

    def _origin(self) -> dict[str, str]:
        """The episodes that it learned from or was set on, which no calibration may use again.

        Pictures without a robot's state and action are nobody's roll-outs, and are left out.
        """
        taught = dict(taught_episodes(Path(self.settings.init))) if self.settings.init else {}
        for root, own in zip(self.settings.datasets, self.data.episodes, strict=True):
            if not {OBS_STATE, ACTION} <= read_info(Path(root))["features"].keys():
                continue
            data = load_demonstrations(Path(root), labels_needed=False)
            taught |= identities(data, sorted({*own["train"], *own["val"]}))
        return {ORIGIN: origin_text(taught)}

    def _record(self, figures: dict[str, float]) -> dict[str, Any]:
        splits = {
            name: {
                "episodes": [own[name] for own in self.data.episodes],
                "success_frames": int(frames.success.sum()),
                "fail_frames": int((~frames.success).sum()),
            }
            for name, frames in self.data.splits.items()
        }
        # Folders by name: a checkpoint tells nobody where its maker keeps his data.
        names = {
            "datasets": [Path(root).name for root in self.settings.datasets],
            "out": Path(self.settings.out).name,
            "init": self.settings.init and Path(self.settings.init).name,
        }
        return {
            "settings": {**asdict(self.settings), **names},
            "steps": self.step,
            "best_step": self.best_step,
            "best_val_loss": self.best_loss,
            "temperature": self.model.temperature.item(),
            "offset": self.model.offset.item(),
            "wall_s": round(time.monotonic() - self.begun, 1),
            "splits": splits,
            "test_figures": figures,
        }


def balanced_batches(frames: Frames, settings: ClassifierSettings) -> Iterator[Frames]:
    """Batches without end, with the set class ratio; each class is shuffled over and over."""
    rng = np.random.default_rng(settings.seed)
    size = settings.batch_size
    n_success = min(max(round(size / (1 + settings.fail_success_ratio)), 1), max(size - 1, 1))
    success = _endless(np.flatnonzero(frames.success), rng)
    fail = _endless(np.flatnonzero(~frames.success), rng)
    while True:
        rows = [next(success) for _ in range(n_success)]
        rows += [next(fail) for _ in range(size - n_success)]
        # Shuffled, so that every process's share holds both classes.
        yield frames.chosen(rng.permutation(rows))


def augment(images: Tensor, settings: ClassifierSettings) -> Tensor:
    """Shift and light each image (B, cameras, 3, H, W) by itself, and add pixel noise."""
    flat = images.flatten(0, 1)
    if settings.random_shift_px:
        flat = random_shift(flat, settings.random_shift_px)
    flat = jitter_brightness(flat, settings.brightness)
    if settings.noise:
        flat = flat + settings.noise * torch.randn_like(flat)
    return flat.clamp(0, 1).unflatten(0, images.shape[:2])


def _first(accelerator: Accelerator) -> AbstractContextManager[None]:
    """Let the main process go first: the others then find the cache filled."""
    return accelerator.main_process_first() if accelerator.num_processes > 1 else nullcontext()


def _endless(rows: NDArray[np.intp], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(rows).tolist()


def _thinned(frames: Frames, most: int) -> Frames:
    """Every n-th frame, so that at most `most` are left."""
    return frames.chosen(np.arange(0, len(frames), max(math.ceil(len(frames) / most), 1)))


def _seed_step(seed: int, step: int, process: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))
