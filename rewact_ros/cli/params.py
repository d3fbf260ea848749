"""`rewact params`: the commented parameter file."""

import typer

from rewact_ros.ros.params import params_yaml


def params() -> None:
    """Print every node parameter with default, unit, bounds and meaning (config/params.yaml)."""
    typer.echo(params_yaml(), nl=False)
