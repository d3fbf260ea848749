"""`rewact train-reward`: a policy's reward learns what failure is from a person's verdicts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.learning.imitation.reward_only_settings import RewardOnlySettings


@with_options
def train_reward(
    policy: Annotated[Path, typer.Option(help="Checkpoint folder; only its reward will change.")],
    demos: Annotated[
        Path, typer.Option(help="Its demonstrations with progress labels, a LeRobotDataset v3.")
    ],
    judged: Annotated[
        list[Path],
        typer.Option(
            help="Its roll-outs with a verdict per episode, a LeRobotDataset; may repeat."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The new checkpoint (default: runs/<time>-reward/pretrained_model)."),
    ] = None,
    *,
    given: Annotated[dict[str, Any], OptionsOf(RewardOnlySettings)],
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of decoded frames (default: ~/.cache/rewact_ros/frames)."),
    ] = None,
) -> None:
    """Teach a policy's reward what failure is, from judged roll-outs; its actions stay."""
    from rewact_ros.learning.imitation.reward_only import train_reward as run
    from rewact_ros.runs import new_run, require_writable

    require_writable(out)
    out = out or new_run("reward") / "pretrained_model"
    settings = RewardOnlySettings(
        policy=str(policy), demos=str(demos), judged=tuple(map(str, judged)), out=str(out), **given
    )
    figures = run(settings, cache=cache)
    typer.echo(
        f"judged: {figures['successes']:g} successes, {figures['failures']:g} failures; "
        f"{figures['frames']:g} frames, loss {figures['loss']:.3f}"
    )
    typer.echo(f"policy: {out}  (calibrate it on other roll-outs: rewact calibrate)")
