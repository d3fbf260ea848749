"""`rewact convert`: a checkpoint of a public RewACT package, written in our layout."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint folder, of any layout.")],
    destination: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    contract: Annotated[
        Path | None, typer.Option(help="Robot contract whose signature goes into it.")
    ] = None,
) -> None:
    """Write a checkpoint in this package's layout; every layout also runs unconverted."""
    from rewact_ros.contract import load_contract
    from rewact_ros.policy.checkpoint import CheckpointError, load_policy, save_policy
    from rewact_ros.policy.compatibility import check_contract

    if destination.exists():
        raise CheckpointError(f"{destination}: exists; name a folder that does not")
    robot = None if contract is None else load_contract(contract)
    loaded = load_policy(source, device="cpu")
    record = loaded.contract
    if robot is not None:
        check_contract(loaded, robot)
        record = robot.record()
    version = save_policy(
        destination, loaded.policy, loaded.preprocessor, loaded.postprocessor, record
    )
    typer.echo(f"{destination}: version {version}")
