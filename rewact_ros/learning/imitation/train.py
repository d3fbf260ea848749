"""Behaviour cloning with a reward head: trains a RewACT policy on a LeRobotDataset."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION
from numpy.typing import NDArray
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from rewact_ros.contract import (
    Contract,
    check_signature,
    load_contract,
    signature_of_dataset,
)
from rewact_ros.data.dataset.info import parse_episodes
from rewact_ros.learning.acceleration import make_accelerator
from rewact_ros.learning.faults import machine_faults_told
from rewact_ros.learning.run_log import RunLog
from rewact_ros.policy import RewACTConfig, RewACTPolicy, make_rewact_pre_post_processors
from rewact_ros.policy.checkpoint import save_policy
from rewact_ros.policy.compatibility import require_rewact
from rewact_ros.policy.policy import Policy

from .batches import TrainingBatches
from .demonstrations import (
    Demonstrations,
    load_demonstrations,
    split_episodes,
)
from .mixture import draw_interventions, join, load_interventions
from .origin import ORIGIN, identities, origin_text, taught_episodes
from .policy_settings import fit_to_dataset, parse_policy, starting_policy
from .representing import asked, represent_all
from .settings import TrainError, TrainSettings
from .splices import Splices, TooFewToSpliceError
from .training_state import (
    TrainingState,
    load_training_state,
    point_at_best,
    save_training_state,
    state_to_resume,
    training_record,
)
from .validation import evaluate


def train(
    settings: TrainSettings,
    cache: Path | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> dict[str, float]:
    """Run (or go on with) a training and leave its checkpoints in ``settings.out``.

    Every step's batch and noise derive from (seed, step, process), so a resumed run repeats what
    an undisturbed one would have done.

    Returns:
        figures of the last validation and test of the averaged weights (see ``evaluate`` and
        ``simulated_success``).

    Raises:
        TrainError: the run exists already, was started with other settings, its loss is not
            finite, or memory or disk ran out; DatasetError and FramesError as their modules say.
    """
    with machine_faults_told(settings):
        return _Training(settings, cache, resume, show_progress).run()


class _Training:
    """A run: everything it is made of, and its loop."""

    def __init__(
        self, settings: TrainSettings, cache: Path | None, resume: bool, show_progress: bool
    ) -> None:
        self.settings, self.out = settings, Path(settings.out)
        contract = _contract(settings.contract)  # first: what is wrong in it costs no data
        self.accelerator = make_accelerator(
            settings.device, settings.mixed_precision, settings.threads
        )
        self.main = self.accelerator.is_main_process
        self.show_progress = show_progress and self.main
        state = state_to_resume(settings, resume)
        device = self.accelerator.device.type
        start = starting_policy(settings, state, device)
        policy = None if start is None else require_rewact(start, "training")
        config = parse_policy(settings, device) if policy is None else policy.config
        self.data = load_demonstrations(
            Path(settings.dataset),
            settings.progress_ramp,
            settings.action_frames,
            settings.imitate_failures,
            labels_needed=config.reward_head != "none",
        )
        named = config.action_representation if start else asked(settings, contract)
        represent_all(named, settings, contract, [self.data])
        fit_to_dataset(config, settings, self.data, named)
        self.contract = _contract_record(contract, self.data)
        self.train_rows, self.val_rows, self.split = _split(settings, self.data)
        self._check_sizes()
        if contract is not None and self.main:
            _tell_turns(contract, self.data, self.train_rows)
        interventions = load_interventions(settings, self.data)
        represent_all(named, settings, contract, interventions)
        if config.reward_head != "none":
            rows = np.sort(np.concatenate([self.train_rows, self.val_rows]))
            self.data.require_labels(rows, config.value_min, config.value_max)
            for data in interventions:
                own = np.arange(len(data.episode))
                data.require_labels(own, config.value_min, config.value_max)
        self._open_frames(config.image_size, cache, interventions)
        if start is None:
            self.preprocessor, self.postprocessor = make_rewact_pre_post_processors(
                config, self.data.stats(self.train_rows, settings.min_std, config.chunk_size)
            )
        else:
            self.preprocessor, self.postprocessor = start.preprocessor, start.postprocessor
        self.taught = {} if start is None else taught_episodes(start.path)
        self.taught |= identities(self.data, self.split["train_episodes"])
        for data in interventions:
            self.taught |= identities(data, range(data.source.meta.total_episodes))
        self.splices = self._splices(config)
        self.pools = draw_interventions(settings, self.data, interventions, config.reward_head)
        self._leave_room_for_demonstrations()
        self.data = join([self.data, *interventions])
        torch.manual_seed(settings.seed)
        self._build(policy or RewACTPolicy(config), state)

    def _splices(self, config: RewACTConfig) -> Splices | None:
        """Pictures of failures, where they can be made; refused only where they were asked for."""
        asked = self.settings.splice
        useful = config.reward_head != "none" and (asked or config.reward_reads == "images")
        if asked == 0 or not useful:
            return None
        if self.settings.frame_cache:
            try:
                return Splices(self.data, self.train_rows, self.settings.seed)
            except TooFewToSpliceError as error:
                fault = str(error)
        else:
            fault = "splices need every frame at hand; leave out --no-cache"
        if asked is not None:
            raise TrainError(f"splice: {fault}, or set it to 0")
        if self.main:
            print(f"no splices: {fault}. Without them the reward may not know failure.")
        return None

    def _leave_room_for_demonstrations(self) -> None:
        settings, taken = self.settings, sum(pool.size for pool in self.pools)
        if taken >= settings.batch_size:
            raise TrainError(
                f"share {settings.share} takes {taken} places of a batch of {settings.batch_size}: "
                "none is left for demonstrations; lower it"
            )

    def _check_sizes(self) -> None:
        settings, processes = self.settings, self.accelerator.num_processes
        if settings.batch_size % processes or len(self.train_rows) < processes:
            raise TrainError(
                f"batch_size: expected a multiple of the {processes} processes that share it (and "
                f"a frame for each), got {settings.batch_size}, {len(self.train_rows)} frames"
            )
        if settings.test_every and self.main:
            from .closed_loop import require_simulated_task  # needs the simulator

            require_simulated_task(self.data, settings.task)

    def _open_frames(
        self,
        image_size: tuple[int, int] | None,
        cache: Path | None,
        interventions: list[Demonstrations],
    ) -> None:
        wanted = [(self.data, [*self.split["train_episodes"], *self.split["val_episodes"]])]
        for data in interventions:
            wanted.append((data, list(range(data.source.meta.total_episodes))))
        for data, episodes in wanted:
            if not self.settings.frame_cache:
                data.decode_on_demand(image_size)
                continue
            if self.main:
                data.decode(image_size, episodes, cache, self.show_progress)
            self.accelerator.wait_for_everyone()
            if not self.main:
                data.decode(image_size, episodes, cache, progress=False)

    def _build(self, policy: RewACTPolicy, state: TrainingState | None) -> None:
        settings = self.settings
        self.policy = policy
        self.averaged = copy.deepcopy(self.policy).to(self.accelerator.device)
        self.averaged.eval().requires_grad_(False)
        optimizer = torch.optim.AdamW(
            self.policy.get_optim_params(), lr=settings.lr, weight_decay=settings.weight_decay
        )
        self.scheduler = LambdaLR(optimizer, _warmup_cosine(settings))
        self.model, self.optimizer = self.accelerator.prepare(self.policy, optimizer)
        self.first_step, self.spent_s, self.figures, self.best = 0, 0.0, {}, None
        if state is not None:
            load_training_state(state, self.policy, self.averaged, self.optimizer, self.scheduler)
            if self.accelerator.scaler is not None and state.scaler is not None:
                self.accelerator.scaler.load_state_dict(state.scaler)
            if self.main:
                point_at_best(self.out, state)
            self.first_step, self.spent_s = state.step, state.wall_s
            self.figures, self.best = dict(state.figures), state.best

    def run(self) -> dict[str, float]:
        """Train to the end; returns the last figures."""
        begun = time.monotonic()
        log = RunLog(self.settings, self.first_step or None) if self.main else None
        batches = TrainingBatches(
            self.data,
            self.train_rows,
            self.settings,
            self.policy.config.chunk_size,
            self.policy.config.n_obs_steps,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.pools,
            self.splices,
        ).loader(self.first_step, pin_memory=self.accelerator.device.type == "cuda")
        with tqdm(
            total=self.settings.steps,
            initial=self.first_step,
            desc="train",
            unit="step",
            mininterval=1,
            disable=not self.show_progress,
        ) as bar:
            items = iter(batches)
            for step in range(self.first_step, self.settings.steps):
                started = time.monotonic()
                item = next(items)
                if isinstance(item, Exception):
                    raise item
                scalars = self._step(step, *item)
                scalars["step_s"] = time.monotonic() - started
                bar.update()
                if log is not None:
                    self._after_step(step + 1, scalars, log, bar, begun)
        if log is not None:
            log.close()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return self.figures

    def _step(
        self, step: int, rows: NDArray[np.integer], raw: dict[str, torch.Tensor]
    ) -> dict[str, Any]:
        _seed_step(self.settings.seed, step, self.accelerator.process_index)
        self.model.train()
        loss, parts = self.model(self.preprocessor(raw))
        self._require_finite(loss, rows, step)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), self.settings.grad_clip_norm
        )
        self.optimizer.step()
        self.scheduler.step()
        _average(self.averaged, self.policy, self.settings.ema_decay, step)
        return {"loss": loss.detach(), **parts, "grad_norm": norm}

    def _after_step(
        self, done: int, scalars: dict[str, Any], log: RunLog, bar: tqdm, begun: float
    ) -> None:
        """Log, validate, test and save as the settings ask after ``done`` steps."""
        settings, last = self.settings, done == self.settings.steps
        if done % settings.log_every == 0 or last:
            scalars = {name: float(value) for name, value in scalars.items()}
            rates = zip(("lr", "lr_backbone"), self.scheduler.get_last_lr(), strict=False)
            log.add("train", scalars | {name: float(rate) for name, rate in rates}, done)
            bar.set_postfix(loss=f"{scalars['loss']:.3f}", l1=f"{scalars['l1_loss']:.3f}")
        figures: dict[str, float] = {}
        arguments = (self.averaged, self.preprocessor, self.postprocessor, self.data)
        if len(self.val_rows) and (done % settings.val_every == 0 or last):
            figures |= evaluate(*arguments, self.val_rows)
        if settings.test_every and (done % settings.test_every == 0 or last):
            from .closed_loop import simulated_success

            figures |= simulated_success(*arguments, settings)
        if figures:
            log.add("val", figures, done)
            bar.write(f"step {done}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
        self.figures |= figures
        improved = self._note_best(done, figures)
        if improved or done % settings.save_every == 0 or last:
            self._save(done, self.spent_s + time.monotonic() - begun)

    def _note_best(self, done: int, figures: dict[str, float]) -> bool:
        """Tell whether these figures are the best so far; of equal ones the later is."""
        name = self.settings.best_figure
        if name not in figures:
            return False
        value, sign = figures[name], 1 if name == "success" else -1
        if self.best is not None and sign * value < sign * self.best["value"]:
            return False
        self.best = {"step": done, "figure": name, "value": value}
        return True

    def _save(self, done: int, wall_s: float) -> None:
        scaler = self.accelerator.scaler
        state = TrainingState(
            done,
            wall_s,
            asdict(self.settings),
            self.figures,
            self.best,
            None if scaler is None else scaler.state_dict(),
        )
        record = training_record(state, self.data, self.split)
        save_training_state(
            self.out,
            state,
            self.policy,
            self.averaged,
            self.optimizer,
            self.scheduler,
            export=lambda folder: save_policy(
                folder,
                self.averaged,
                self.preprocessor,
                self.postprocessor,
                self.contract,
                {"training.json": record, ORIGIN: origin_text(self.taught)},
            ),
        )

    def _require_finite(self, loss: torch.Tensor, rows: NDArray[np.integer], step: int) -> None:
        if torch.isfinite(loss):
            return
        frames = [f"{self.data.episode[r]}:{r - self.data.start[r]}" for r in rows]
        raise TrainError(
            f"step {step}: loss is {loss.item()}; the batch holds episode:frame "
            f"{', '.join(frames[:64])}; "
            "look at these, lower lr, or resume from the last checkpoint with mixed_precision no"
        )


def _split(
    settings: TrainSettings, data: Demonstrations
) -> tuple[NDArray[np.intp], NDArray[np.intp], dict[str, list[int]]]:
    total = data.source.meta.total_episodes
    chosen = parse_episodes(settings.episodes, total) if settings.episodes else list(range(total))
    wanted = parse_episodes(settings.val_episodes, total) if settings.val_episodes else None
    train_episodes, val_episodes = split_episodes(
        chosen, wanted, settings.val_fraction, settings.seed
    )
    return (
        data.rows(train_episodes),
        data.rows(val_episodes),
        {"train_episodes": train_episodes, "val_episodes": val_episodes},
    )


def _contract(path: str | None) -> Contract | None:
    return None if path is None else load_contract(path)


def _contract_record(contract: Contract | None, data: Demonstrations) -> dict[str, Any] | None:
    if contract is None:
        return None
    own = data.represented
    check_signature(
        contract,
        signature_of_dataset(data.source.meta.info.to_dict()),
        f"data set {data.source.root}",
        # Its columns were matched one by one.
        frozenset({ACTION}) if own is not None and own.recorded else frozenset(),
    )
    return contract.record()


def _tell_turns(contract: Contract, data: Demonstrations, rows: NDArray[np.intp]) -> None:
    units = [unit for part in contract.action for unit in part.units]
    for joint, share in data.turned_joints(rows).items():
        if units[joint] == "rad":
            print(
                f"{contract.action_names[joint]}: {share:.0%} of the frames have a target that "
                "others have 2π away, and a policy learns the middle of the two. Mend: record "
                "demonstrations that turn the same way, or leave those out that do not (--episodes)"
            )


def _warmup_cosine(settings: TrainSettings) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < settings.warmup_steps:
            return (step + 1) / settings.warmup_steps
        done = (step - settings.warmup_steps) / max(settings.steps - settings.warmup_steps, 1)
        low = settings.final_lr_ratio
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return factor


def _seed_step(seed: int, step: int, process: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))


@torch.no_grad()
def _average(averaged: Policy, policy: Policy, decay: float, step: int) -> None:
    """Move the averaged weights; the decay rises with the steps, to forget the early weights."""
    # As TensorFlow's ExponentialMovingAverage does with `num_updates`.
    decay = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    torch._foreach_lerp_(list(averaged.parameters()), list(policy.parameters()), 1 - decay)
