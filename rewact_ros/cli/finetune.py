"""`rewact finetune`: a running policy learns from what a human corrected."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.learning.imitation.settings import (
    FINE_TUNING,
    RoundsSettings,
    TrainError,
    TrainSettings,
)
from rewact_ros.trials.replacement import ReplacementSettings

_TRAINING = (
    "share",
    "reward_share",
    "episodes",
    "steps",
    "batch_size",
    "lr",
    "warmup_steps",
    "val_fraction",
    "seed",
    "mixed_precision",
    "save_every",
    "device",
    "threads",
    "workers",
    "task",
)


@with_options
def finetune(
    policy: Annotated[Path, typer.Option(help="Checkpoint folder that runs now.")],
    demos: Annotated[Path, typer.Option(help="Its demonstrations, a LeRobotDataset v3.")],
    interventions: Annotated[
        list[Path] | None,
        typer.Option(help="Dataset with human corrections (`rewact export`); may repeat."),
    ] = None,
    contract: Annotated[
        Path | None, typer.Option(help="Robot contract (default: the task's).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/<time>-finetune).")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write the new policy here, if the test keeps it.")
    ] = None,
    *,
    given: Annotated[
        dict[str, Any], OptionsOf(TrainSettings, only=_TRAINING, defaults=FINE_TUNING)
    ],
    imitate_failures: Annotated[
        bool, typer.Option(help="Human frames of episodes without success teach too.")
    ] = TrainSettings.imitate_failures,
    rounds: Annotated[
        int, typer.Option(min=0, help="Rounds of HG-DAgger with the simulated human; 0: none.")
    ] = 0,
    collected: Annotated[dict[str, Any], OptionsOf(RoundsSettings, but=("test_episodes",))],
    test_episodes: Annotated[
        int,
        typer.Option(min=0, help="Simulated scenes that compare old and new, at most; 0: none."),
    ] = RoundsSettings.test_episodes,
    tested: Annotated[dict[str, Any], OptionsOf(ReplacementSettings)],
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of decoded frames (default: ~/.cache/rewact_ros/frames)."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train on from a checkpoint on demonstrations and interventions, and compare the two."""
    from rewact_ros.runs import new_run, require_writable
    from rewact_ros.stack.bringup import default_contract

    if resume and out is None:
        raise TrainError("--resume needs --out, the folder of the run to go on with")
    if not rounds and not interventions:
        raise TrainError("give --interventions, or --rounds to collect some in simulation")
    usual = default_contract(given["task"])  # before anything else, as it looks for the task
    require_writable(out, *([export] if export is not None else []))
    settings = TrainSettings(
        dataset=str(demos),
        out=str(out or new_run("finetune")),
        lr_backbone=given["lr"],
        imitate_failures=imitate_failures,
        start=str(policy),
        interventions=tuple(map(str, interventions or [])),
        contract=str(contract or usual),
        **given,
    )
    replacement = ReplacementSettings(**tested)
    if rounds:
        several = RoundsSettings(
            settings,
            rounds=rounds,
            test_episodes=test_episodes,
            replacement=replacement,
            **collected,
        )
        chosen = _rounds(several, cache, resume)
    else:
        first = collected["test_seed"]
        seeds = range(first, first + test_episodes)
        chosen = _once(settings, seeds, replacement, cache, resume)
    if chosen is not None and export is not None:
        from rewact_ros.policy.checkpoint import export_policy

        export_policy(chosen, export)
        chosen = export
    typer.echo(f"policy: {chosen or policy}")


def _once(
    settings: TrainSettings,
    seeds: range,
    replacement: ReplacementSettings,
    cache: Path | None,
    resume: bool,
) -> Path | None:
    """Fine-tune and compare; returns the new checkpoint if the test keeps it."""
    from rewact_ros.contract import load_contract
    from rewact_ros.learning.imitation.finetune import (
        can_be_simulated,
        compare,
        fine_tune,
        write_comparison,
    )

    new = fine_tune(settings, cache, resume)
    contract = load_contract(settings.contract)
    if not seeds or not can_be_simulated(contract, settings.task):
        why = f"not the robot of {settings.task}" if seeds else "no scenes"
        typer.echo(f"not compared: {why}; try it first")
        return new
    comparison = compare(Path(settings.start), new, contract, seeds, settings.task, replacement)
    write_comparison(Path(settings.out) / "comparison.json", comparison)
    typer.echo(comparison.line)
    return new if comparison.kept else None


def _rounds(settings: RoundsSettings, cache: Path | None, resume: bool) -> Path | None:
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
