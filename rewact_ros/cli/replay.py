"""`rewact replay`: recorded data on the contract's topics in real time, as a robot in dry-run."""

from pathlib import Path
from typing import Annotated

import typer


def replay(
    dataset: Annotated[Path, typer.Option(help="Folder of a LeRobotDataset v3.")],
    contract: Annotated[str, typer.Option(help="Contract file of the recorded robot.")],
    episodes: Annotated[
        str, typer.Option(help="Episodes to play: A:B, or a list such as 1,4.")
    ] = "",
    policy: Annotated[
        str, typer.Option(help="Checkpoint: also start policy, hil (dry-run) and supervisor.")
    ] = "",
    out: Annotated[
        str, typer.Option(help="Folder for the report; default: runs/<time>-replay.")
    ] = "",
    verbose: Annotated[bool, typer.Option(help="Show the log of the nodes.")] = False,
) -> None:
    """Play a data set as if the robot were there; report action error and progress per episode.

    With --policy the stack is started here in dry-run; without it, data goes to a running stack.
    """
    from rewact_ros.stack.replay import run_replay

    folder = run_replay(dataset, contract, episodes, policy, out, verbose)
    typer.echo(f"report: {folder}")
