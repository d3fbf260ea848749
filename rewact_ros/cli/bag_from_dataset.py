"""`rewact bag from-dataset`: a LeRobotDataset as recordings that replay as a robot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.data.bags.from_dataset_settings import BagsSettings


@with_options
def from_dataset(
    dataset: Annotated[Path, typer.Argument(help="Folder of a LeRobotDataset v3.")],
    contract: Annotated[Path, typer.Option(help="Contract of the robot that it is of.")],
    out: Annotated[Path, typer.Option(help="Folder that gets one bag per episode.")],
    episodes: Annotated[
        str | None, typer.Option(help="Such as 0:3 or 0,4,7:9; default: all.")
    ] = None,
    *,
    given: Annotated[dict[str, Any], OptionsOf(BagsSettings)],
) -> None:
    """Write the episodes of a dataset as bags: cameras, joints and commands at its rate."""
    from rewact_ros.data.bags.from_dataset import write_bags
    from rewact_ros.data.dataset.info import parse_episodes, read_info

    chosen = None
    if episodes is not None:
        chosen = tuple(parse_episodes(episodes, read_info(dataset)["total_episodes"]))
    bags = write_bags(BagsSettings(dataset, contract, out, chosen, **given))
    size = sum(file.stat().st_size for bag in bags for file in bag.iterdir())
    typer.echo(f"{out}: {len(bags)} bags, {size / 1e6:.0f} MB")
