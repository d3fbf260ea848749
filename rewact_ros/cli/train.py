"""``rewact train``: train a RewACT policy on a LeRobotDataset."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.learning.imitation.settings import TrainError, TrainSettings


@with_options
def train(
    dataset: Annotated[Path, typer.Option(help="Folder of a LeRobotDataset v3.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/<time>-train).")
    ] = None,
    *,
    given: Annotated[
        dict[str, Any],
        OptionsOf(
            TrainSettings,
            but=("final_lr_ratio", "grad_clip_norm", "min_std", "share", "reward_share"),
        ),
    ],
    lr_backbone: Annotated[
        float | None, typer.Option(help="Of the image backbone (default: as lr).")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", help="Policy setting NAME=VALUE, e.g. image_size=[120,160]; may repeat."
        ),
    ] = None,
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
    export: Annotated[
        Path | None, typer.Option(help="Also write the finished policy here, e.g. models/mine.")
    ] = None,
    export_which: Annotated[str, typer.Option(help="last or best.")] = "last",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a policy on a LeRobotDataset; a killed run goes on with --resume."""
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
        lr_backbone=given["lr"] if lr_backbone is None else lr_backbone,
        policy=_pairs(policy or []),
        contract=None if contract is None else str(contract),
        frame_cache=not no_cache,
        **given,
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
