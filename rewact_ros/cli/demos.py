"""`rewact demos`: record scripted demonstrations in the simulator as a LeRobotDataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.episodes.demos import DemoSettings


@with_options
def demos(
    out: Annotated[Path, typer.Option(help="Folder of the new dataset; must not exist.")],
    *,
    given: Annotated[dict[str, Any], OptionsOf(DemoSettings)],
    contract: Annotated[
        Path | None, typer.Option(help="Robot contract. [default: the task's]")
    ] = None,
) -> None:
    """Write a LeRobotDataset of a task's scripted episodes with progress labels."""
    from rewact_ros.contract import ContractError
    from rewact_ros.episodes.demos import DemosError, write_demos
    from rewact_ros.mujoco_backend import SimulationUnavailableError
    from rewact_ros.sim.task import TaskError
    from rewact_ros.stack.bringup import default_contract
    from rewact_ros.text import reason

    begin_s = time.monotonic()
    try:
        robot = contract or Path(default_contract(given["task"]))
        report = write_demos(DemoSettings(out, robot, **given))
    except (DemosError, TaskError, ContractError, SimulationUnavailableError, OSError) as error:
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
