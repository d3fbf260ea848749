"""``rewact train``: train a RewACT policy on a LeRobotDataset."""

import os
from pathlib import Path
from typing import Annotated

import typer


def train(
    dataset: Annotated[Path, typer.Option(help="Folder of a LeRobotDataset v3.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/<time>-train).")
    ] = None,
    episodes: Annotated[
        str | None, typer.Option(help="Episodes to use, e.g. 0:24 or 0,3,5:9.")
    ] = None,
    val_episodes: Annotated[
        str | None, typer.Option(help="Episodes to validate on, e.g. 20:24.")
    ] = None,
    val_fraction: Annotated[
        float, typer.Option(help="Share of episodes to validate on, drawn by seed.")
    ] = 0.1,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 5000,
    batch_size: Annotated[int, typer.Option(min=1, help="Frames per step.")] = 32,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-4,
    lr_backbone: Annotated[
        float | None, typer.Option(help="Of the image backbone (default: as lr).")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="AdamW's weight decay.")] = 1e-4,
    warmup_steps: Annotated[
        int, typer.Option(help="Steps of linear warm-up before the cosine.")
    ] = 200,
    ema_decay: Annotated[
        float, typer.Option(help="Decay of the averaged weights; 0 for none.")
    ] = 0.999,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches, noise and split.")] = 0,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", help="Policy setting NAME=VALUE, e.g. image_size=[120,160]; may repeat."
        ),
    ] = None,
    progress_ramp: Annotated[
        bool,
        typer.Option(
            "--progress-ramp", help="Label a dataset without next.reward by time, 5 % to 95 %."
        ),
    ] = False,
    action_frames: Annotated[
        str, typer.Option(help="Whose frames teach actions: all, human or autonomous.")
    ] = "all",
    imitate_failures: Annotated[
        bool,
        typer.Option(
            "--imitate-failures",
            help="Let episodes without success teach actions.",
        ),
    ] = False,
    rewind: Annotated[
        float,
        typer.Option(help="Share of samples played backwards; for --policy n_obs_steps > 1."),
    ] = 0.0,
    contract: Annotated[
        Path | None, typer.Option(help="Robot contract whose signature goes into the checkpoint.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of decoded frames (default: ~/.cache/rewact_ros/frames)."),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Decode the videos anew for every batch.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that assemble batches ahead; 0: none.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads on a CPU.")] = 1,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between log entries.")] = 50,
    val_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 500,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    test_every: Annotated[
        int, typer.Option(min=0, help="Steps between closed-loop tests in simulation; 0: none.")
    ] = 0,
    test_episodes: Annotated[int, typer.Option(min=1, help="Scenes of a test.")] = 20,
    test_seed: Annotated[
        int, typer.Option(min=0, help="First scene's seed; 100000 to 199999 are for choosing.")
    ] = 100_000,
    best_by: Annotated[
        str,
        typer.Option(
            help="What checkpoints/best is chosen by: loss, action_l1, reward_mae or success "
            "(auto: success where it is tested, else loss)."
        ),
    ] = "auto",
    wandb: Annotated[
        str | None, typer.Option(help="Log to this Weights & Biases project too.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write the finished policy here, e.g. models/mine.")
    ] = None,
    export_which: Annotated[str, typer.Option(help="last or best.")] = "last",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a policy on a LeRobotDataset; a killed run goes on with --resume."""
    from rewact_ros.learning.imitation.settings import TrainError, TrainSettings
    from rewact_ros.learning.imitation.train import train as run
    from rewact_ros.policy.checkpoint import export_policy
    from rewact_ros.runs import new_run, require_writable

    if resume and out is None:
        raise TrainError("--resume needs --out, the folder of the run to go on with")
    if export_which not in ("last", "best"):
        raise TrainError(f"--export-which: expected last or best, got {export_which}")
    rank = int(os.environ.get("RANK", "0"))  # of several processes under `accelerate launch`
    if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainError("--out: several processes share a run; name its folder")
    require_writable(out, *([export] if export is not None else []))
    out = out or new_run("train")
    settings = TrainSettings(
        dataset=str(dataset),
        out=str(out),
        episodes=episodes,
        val_episodes=val_episodes,
        val_fraction=val_fraction,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        lr_backbone=lr if lr_backbone is None else lr_backbone,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        ema_decay=ema_decay,
        seed=seed,
        mixed_precision=mixed_precision,
        policy=_pairs(policy or []),
        progress_ramp=progress_ramp,
        action_frames=action_frames,
        imitate_failures=imitate_failures,
        rewind=rewind,
        contract=None if contract is None else str(contract),
        device=device,
        threads=threads,
        workers=workers,
        frame_cache=not no_cache,
        log_every=log_every,
        val_every=val_every,
        save_every=save_every,
        test_every=test_every,
        test_episodes=test_episodes,
        test_seed=test_seed,
        best_by=best_by,
        wandb=wandb,
    )
    figures = run(settings, cache=cache, resume=resume)
    if rank:
        return
    finished = out / "checkpoints" / export_which / "pretrained_model"
    if not finished.exists():
        raise TrainError(
            f"{finished}: no checkpoint was chosen by {settings.best_figure}; "
            "give validation episodes or --test-every, or --export-which last"
        )
    if export is not None:
        export_policy(finished, export)
    typer.echo(
        f"policy: {export or finished}  " + "  ".join(f"{k}={v:.4f}" for k, v in figures.items())
    )


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--policy {text}: expected NAME=VALUE, e.g. chunk_size=30")
        pairs[name] = value
    return pairs
