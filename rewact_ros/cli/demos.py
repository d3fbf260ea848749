"""`rewact demos`: record scripted demonstrations in the simulator as a LeRobotDataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def demos(
    out: Annotated[Path, typer.Option(help="Folder of the new dataset; must not exist.")],
    episodes: Annotated[int, typer.Option(help="Episodes that succeed.")] = 300,
    failures: Annotated[int, typer.Option(help="Further episodes that fail.")] = 60,
    retries: Annotated[
        int, typer.Option(help="Of the successes, how many miss the first grasp.")
    ] = 40,
    seed: Annotated[int, typer.Option(help="First scene seed (training: 0 to 99999).")] = 0,
    noise: Annotated[float, typer.Option(help="Motion noise on the arm joints in rad.")] = 0.035,
    workers: Annotated[int, typer.Option(help="Simulating processes.")] = 2,
    contract: Annotated[
        Path | None, typer.Option(help="Robot contract. [default: the simulated arm]")
    ] = None,
) -> None:
    """Write a LeRobotDataset of scripted pick-and-place episodes with progress labels."""
    from rewact_ros.contract import ContractError
    from rewact_ros.episodes.demos import DemosError, DemoSettings, write_demos
    from rewact_ros.mujoco_backend import SimulationUnavailableError
    from rewact_ros.stack.bringup import default_contract
    from rewact_ros.text import reason

    begin_s = time.monotonic()
    try:
        robot = contract or Path(default_contract())
        settings = DemoSettings(out, robot, episodes, failures, retries, seed, noise, workers)
        report = write_demos(settings)
    except (DemosError, ContractError, SimulationUnavailableError, OSError) as error:
        typer.echo(f"demos: {reason(error)}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        typer.echo(f"demos: interrupted; nothing is left at {out}", err=True)
        raise typer.Exit(130) from None
    frames = sum(episode["frames"] for episode in report["episodes"])
    good = sum(episode["success_frame"] is not None for episode in report["episodes"])
    typer.echo(
        f"{out}: {len(report['episodes'])} episodes ({good} successes), {frames} frames, "
        f"{report['rejected']} rejected, {time.monotonic() - begin_s:.0f} s"
    )
