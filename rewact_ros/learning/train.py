"""Behaviour cloning with a reward head: trains a RewACT policy on a LeRobotDataset."""

import copy
import difflib
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from pathlib import Path

import draccus
import numpy as np
import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rewact_ros.policy import RewACTConfig, RewACTPolicy, make_rewact_pre_post_processors
from rewact_ros.policy.checkpoint import save_policy

from .demonstrations import Demonstrations, load_demonstrations, parse_episodes, split_episodes
from .settings import TrainError, TrainSettings
from .training_state import TrainingState, load_training_state, save_training_state
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
        validation figures of the exported weights: ``action_l1`` (contract units), ``reward_mae``.

    Raises:
        TrainError: the run exists already, was started with other settings, or its loss is not
            finite; DatasetError and FrameCacheError as their modules say.
    """
    accelerator = _make_accelerator(settings)
    out = Path(settings.out)
    state = _previous_state(settings, out, resume)
    data = load_demonstrations(
        Path(settings.dataset),
        settings.progress_ramp,
        settings.action_frames,
        settings.imitate_failures,
    )
    contract = _contract_record(settings.contract, data)
    train_rows, val_rows, split = _split(settings, data)

    config = _policy_config(settings, data, accelerator.device)
    torch.manual_seed(settings.seed)
    policy = RewACTPolicy(config)
    if accelerator.is_main_process:
        data.decode(config.image_size, cache, show_progress)
    accelerator.wait_for_everyone()
    if not data.frames:
        data.decode(config.image_size, cache, progress=False)
    preprocessor, postprocessor = make_rewact_pre_post_processors(
        config, data.stats(train_rows, settings.min_std)
    )
    averaged = copy.deepcopy(policy).to(accelerator.device).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        policy.get_optim_params(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    scheduler = LambdaLR(optimizer, _warmup_cosine(settings))
    model, optimizer = accelerator.prepare(policy, optimizer)
    if state is not None:
        load_training_state(state, policy, averaged, optimizer, scheduler)

    log = (
        SummaryWriter(out / "tensorboard", purge_step=state.step if state else None)
        if accelerator.is_main_process
        else None
    )
    first_step, spent_s, begun = (
        (state.step if state else 0),
        (state.wall_s if state else 0.0),
        time.monotonic(),
    )
    figures = state.figures if state else {}
    bar = tqdm(
        range(first_step, settings.steps),
        initial=first_step,
        total=settings.steps,
        desc="train",
        unit="step",
        mininterval=1,
        disable=not (show_progress and accelerator.is_main_process),
    )
    for step in bar:
        rows = batch_rows(train_rows, settings.batch_size, settings.seed, step)
        rows = rows[accelerator.process_index :: accelerator.num_processes]
        _seed_step(settings.seed, step, accelerator.process_index)
        model.train()
        batch = preprocessor(data.batch(rows, config.chunk_size))
        loss, parts = model(batch)
        _require_finite(loss, data, rows, step)
        optimizer.zero_grad()
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), settings.grad_clip_norm)
        optimizer.step()
        scheduler.step()
        _average(averaged, policy, settings.ema_decay, step)

        done = step + 1
        last = done == settings.steps
        if not accelerator.is_main_process:
            continue
        if done % settings.log_every == 0 or last:
            scalars = {
                "loss": loss.item(),
                **parts,
                "grad_norm": float(norm),
                "lr": scheduler.get_last_lr()[0],
            }
            for name, value in scalars.items():
                log.add_scalar(f"train/{name}", value, done)
            bar.set_postfix(loss=f"{scalars['loss']:.3f}", l1=f"{parts['l1_loss']:.3f}")
        if len(val_rows) and (done % settings.val_every == 0 or last):
            figures = evaluate(averaged, preprocessor, postprocessor, data, val_rows)
            for name, value in figures.items():
                log.add_scalar(f"val/{name}", value, done)
            bar.write(f"step {done}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()))
        if done % settings.save_every == 0 or last:
            wall_s = spent_s + time.monotonic() - begun
            record = _training_record(settings, data, split, done, wall_s, figures)
            save_training_state(
                out,
                TrainingState(done, wall_s, asdict(settings), figures),
                policy,
                averaged,
                optimizer,
                scheduler,
                export=lambda folder, text=record: save_policy(
                    folder, averaged, preprocessor, postprocessor, contract, {"training.json": text}
                ),
            )
    if log is not None:
        log.close()
    return figures


def batch_rows(rows: np.ndarray, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Rows of a step: each epoch shuffles all rows anew; its last, short batch is dropped."""
    per_epoch = max(len(rows) // batch_size, 1)
    epoch, index = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    return rows[order[index * batch_size : (index + 1) * batch_size]]


def _make_accelerator(settings: TrainSettings) -> Accelerator:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainError("device cuda: no CUDA device is available here; use auto or cpu")
    cpu = settings.device == "cpu" or not torch.cuda.is_available()
    if cpu:
        torch.set_num_threads(settings.threads)
    return Accelerator(cpu=cpu, mixed_precision=settings.mixed_precision)


def _previous_state(settings: TrainSettings, out: Path, resume: bool) -> TrainingState | None:
    state = TrainingState.find(out)
    if state is None:
        return None
    if not resume:
        raise TrainError(
            f"{out}: holds a run at step {state.step}; continue it with --resume, "
            "or give another --out"
        )
    free = {"out", "device", "threads", "log_every", "val_every", "save_every"}
    now = json.loads(json.dumps(asdict(settings)))
    # A setting that is younger than the run had its default's effect then.
    defaults = {f.name: f.default for f in fields(TrainSettings) if f.default is not MISSING}
    for name, value in now.items():
        then = state.settings.get(name, defaults.get(name))
        if name not in free and then != value:
            raise TrainError(
                f"{out}: was started with {name}={then!r}, now {value!r}; "
                "resume with the same settings, or give another --out"
            )
    return state


def _split(settings: TrainSettings, data: Demonstrations) -> tuple[np.ndarray, np.ndarray, dict]:
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


def _policy_config(
    settings: TrainSettings, data: Demonstrations, device: torch.device
) -> RewACTConfig:
    known = [f.name for f in fields(RewACTConfig) if f.name not in ("device", "use_peft")]
    for name in settings.policy:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TrainError(f"policy setting {name}: RewACTConfig has no such setting{hint}")
    arguments = [f"--{name}={value}" for name, value in settings.policy.items()]
    if "n_action_steps" not in settings.policy and "chunk_size" in settings.policy:
        arguments.append(f"--n_action_steps={settings.policy['chunk_size']}")
    try:
        config = draccus.parse(RewACTConfig, args=[*arguments, f"--device={device.type}"])
    except Exception as error:  # draccus raises its own families of errors
        raise TrainError(
            f"policy settings {settings.policy}: {' '.join(str(error).split())}"
        ) from error
    config.optimizer_lr, config.optimizer_lr_backbone = settings.lr, settings.lr_backbone
    config.input_features, config.output_features = data.input_features(), data.output_features()
    return config


def _contract_record(path: str | None, data: Demonstrations) -> dict | None:
    if path is None:
        return None
    from rewact_ros.contract import check_signature, load_contract, signature_of_dataset

    contract = load_contract(path)
    check_signature(
        contract,
        signature_of_dataset(data.source.meta.info.to_dict()),
        f"data set {data.source.root}",
    )
    return {"hash": contract.hash, "signature": contract.signature()}


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
def _average(averaged: RewACTPolicy, policy: RewACTPolicy, decay: float, step: int) -> None:
    """Move the averaged weights; the decay rises with the steps, to forget the early weights."""
    decay = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    torch._foreach_lerp_(list(averaged.parameters()), list(policy.parameters()), 1 - decay)


def _require_finite(loss: torch.Tensor, data: Demonstrations, rows: np.ndarray, step: int) -> None:
    if torch.isfinite(loss):
        return
    frames = [f"{data.episode[r]}:{r - data.start[r]}" for r in rows]
    raise TrainError(
        f"step {step}: loss is {loss.item()}; the batch holds episode:frame "
        f"{', '.join(frames[:64])}; "
        "look at these, lower lr, or resume from the last checkpoint with mixed_precision no"
    )


def _training_record(
    settings: TrainSettings,
    data: Demonstrations,
    split: dict,
    step: int,
    wall_s: float,
    figures: dict,
) -> str:
    """What made a checkpoint, as JSON text."""
    record = {
        "command": shlex.join(["rewact", *sys.argv[1:]]),
        "settings": asdict(settings),
        "dataset": {
            "name": Path(settings.dataset).name,
            "fingerprint": data.fingerprint,
            "fps": data.fps,
            "frames": len(data.episode),
            **split,
        },
        "step": step,
        "wall_s": round(wall_s, 1),
        "torch_threads": torch.get_num_threads(),
        "validation": figures,
        "torch": torch.__version__,
    }
    return json.dumps(record, indent=2) + "\n"
