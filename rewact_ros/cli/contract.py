"""`rewact contract`: a robot contract checked, shown, and made from what is there."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Check, show or make a robot contract.")
File = Annotated[Path, typer.Argument(help="Contract of a robot, a YAML file.")]
Namespace = Annotated[str, typer.Option(help="Namespace of the robot.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(file: File, namespace: Namespace = "/", as_json: Json = False) -> None:
    """Tell everything that is wrong in a contract, without ROS and without data; exit code 2."""
    from rewact_ros.cli.contract_check import check_contract

    if code := check_contract(file, namespace, as_json):
        raise typer.Exit(code)


@app.command()
def show(file: File, as_json: Json = False) -> None:
    """Print features, shapes, dtypes, names in order, topics and hash of a contract."""
    from rewact_ros.contract.load import load_contract
    from rewact_ros.contract.report import description, description_text

    contract = load_contract(file)
    typer.echo(
        json.dumps(description(contract), indent=2) if as_json else description_text(contract)
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of contracts, for editors (docs/contract.schema.json)."""
    from rewact_ros.contract.tables import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
