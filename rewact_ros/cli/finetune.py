"""`rewact finetune`: a running policy learns from what a human corrected."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rewact_ros.learning.imitation.dagger import RoundsSettings
    from rewact_ros.learning.imitation.settings import TrainSettings


def finetune(
    policy: Annotated[Path, typer.Option(help="Checkpoint folder that runs now.")],
    demos: Annotated[Path, typer.Option(help="Its demonstrations, a LeRobotDataset v3.")],
    interventions: Annotated[
        list[Path] | None,
        typer.Option(help="Dataset with human corrections (`rewact export`); may repeat."),
    ] = None,
    share: Annotated[
        float, typer.Option(help="Of each batch that comes from the interventions.")
    ] = 0.5,
    reward_share: Annotated[
        float, typer.Option(help="Of that, for frames that teach the reward alone.")
    ] = 0.25,
    episodes: Annotated[
        str | None, typer.Option(help="Demonstrations to use, e.g. 0:24 or 0,3,5:9.")
    ] = None,
    contract: Annotated[
        Path | None, typer.Option(help="Robot contract (default: of the simulated arm).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/<time>-finetune).")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write the new policy here, unless it is worse.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Frames per step.")] = 32,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-4,
    warmup_steps: Annotated[int, typer.Option(help="Steps of linear warm-up.")] = 50,
    val_fraction: Annotated[
        float, typer.Option(help="Share of demonstrations to validate on, drawn by seed.")
    ] = 0.05,
    imitate_failures: Annotated[
        bool, typer.Option(help="Human frames of episodes without success teach too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of batches, noise and split.")] = 0,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
    test_episodes: Annotated[
        int, typer.Option(min=0, help="Simulated scenes that compare old and new; 0: none.")
    ] = 30,
    test_seed: Annotated[
        int, typer.Option(min=0, help="First of them; 100000 to 199999 are for choosing.")
    ] = 100_000,
    rounds: Annotated[
        int, typer.Option(min=0, help="Rounds of HG-DAgger with the simulated human; 0: none.")
    ] = 0,
    round_episodes: Annotated[int, typer.Option(min=1, help="Collected in each.")] = 40,
    round_seed: Annotated[int, typer.Option(min=0, help="First scene of the first.")] = 60_000,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads on a CPU.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that assemble batches.")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of decoded frames (default: ~/.cache/rewact_ros/frames)."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train on from a checkpoint on demonstrations and interventions, and compare the two."""
    from rewact_ros.learning.imitation.settings import TrainError, TrainSettings
    from rewact_ros.runs import new_run, require_writable
    from rewact_ros.stack.bringup import default_contract

    if resume and out is None:
        raise TrainError("--resume needs --out, the folder of the run to go on with")
    if not rounds and not interventions:
        raise TrainError("give --interventions, or --rounds to collect some in simulation")
    require_writable(out, *([export] if export is not None else []))
    settings = TrainSettings(
        dataset=str(demos),
        out=str(out or new_run("finetune")),
        episodes=episodes,
        val_fraction=val_fraction,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        lr_backbone=lr,
        warmup_steps=warmup_steps,
        seed=seed,
        mixed_precision=mixed_precision,
        imitate_failures=imitate_failures,
        start=str(policy),
        interventions=tuple(map(str, interventions or [])),
        share=share,
        reward_share=reward_share,
        contract=str(contract or default_contract()),
        device=device,
        threads=threads,
        workers=workers,
        save_every=save_every,
    )
    if rounds:
        from rewact_ros.learning.imitation.dagger import RoundsSettings

        chosen = _rounds(
            RoundsSettings(settings, rounds, round_episodes, round_seed, test_episodes, test_seed),
            cache,
            resume,
        )
    else:
        chosen = _once(settings, range(test_seed, test_seed + test_episodes), cache, resume)
    if chosen is not None and export is not None:
        from rewact_ros.policy.checkpoint import export_policy

        export_policy(chosen, export)
        chosen = export
    typer.echo(f"policy: {chosen or policy}")


def _once(settings: "TrainSettings", seeds: range, cache: Path | None, resume: bool) -> Path | None:
    """Fine-tune and compare; returns the new checkpoint unless it is worse."""
    from rewact_ros.contract import load_contract
    from rewact_ros.learning.imitation.finetune import (
        can_be_simulated,
        compare,
        fine_tune,
        write_comparison,
    )

    new = fine_tune(settings, cache, resume)
    contract = load_contract(settings.contract)
    if not seeds or not can_be_simulated(contract):
        typer.echo(f"not compared: {'no scenes' if not seeds else 'no simulation'}; try it first")
        return new
    comparison = compare(Path(settings.start), new, contract, seeds)
    write_comparison(Path(settings.out) / "comparison.json", comparison)
    typer.echo(comparison.line)
    return new if comparison.kept else None


def _rounds(settings: "RoundsSettings", cache: Path | None, resume: bool) -> Path | None:
    """Run the rounds; returns the last checkpoint that was kept."""
    from rewact_ros.learning.imitation.dagger import run_rounds

    chosen = None
    for index, result in enumerate(run_rounds(settings, cache, resume)):
        typer.echo(
            f"round {index + 1}: {result.interventions:.2f} interventions per episode, "
            f"{result.comparison.line}, {result.wall_s / 60:.1f} min"
        )
        if result.comparison.kept:
            chosen = result.policy
    return chosen
