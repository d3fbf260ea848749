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


@app.command()
def init(
    out: Annotated[Path, typer.Option(help="Contract to write; must not exist.")],
    graph: Annotated[
        bool, typer.Option("--graph", help="Listen to the running robot, /robot_description too.")
    ] = False,
    controllers: Annotated[
        bool, typer.Option(help="With --graph: ask the controllers which joints they take.")
    ] = True,
    urdf: Annotated[Path | None, typer.Option(help="Model of the robot.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="Folder of a LeRobotDataset v3.")] = None,
    bag: Annotated[Path | None, typer.Option(help="A recording of the robot.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder of a policy.")] = None,
    robot: Annotated[str, typer.Option(help="Name of the robot (default: its model's).")] = "",
    rate_hz: Annotated[
        float, typer.Option(help="Rate of observations (default: the data set's or camera's).")
    ] = 0.0,
    camera: Annotated[
        list[str] | None,
        typer.Option(help="NAME=TOPIC: camera of the data set; may repeat."),
    ] = None,
    joint: Annotated[
        list[str] | None,
        typer.Option(help="NAME=JOINT: the driver's name of a joint of the data set; may repeat."),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(help="NAME=TOPIC: a pose, a wrench, a twist or a number; may repeat."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="TOPIC of joint states that counts where several have a joint."),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(help="TOPIC, or TOPIC=JOINT,JOINT: what commands these joints; may repeat."),
    ] = None,
    tip: Annotated[str, typer.Option(help="Link of the model that carries the tool.")] = "",
    namespace: Annotated[str, typer.Option(help="Namespace of the robot.")] = "/",
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="To listen, s.")] = 3.0,
) -> None:
    """Make a contract from what is there: graph, model, data set, bag, checkpoint, or several.

    On a terminal, what these leave open is asked; each question names the option that settles it.
    """
    from rewact_ros.cli.contract_check import check_contract
    from rewact_ros.cli.contract_init import ask, check_new, find, on_a_terminal, write
    from rewact_ros.contract.choices import Choices, commands, pairs

    check_new(out)
    choices = Choices(
        robot,
        rate_hz,
        pairs("--camera", camera or []),
        pairs("--joint", joint or []),
        pairs("--value", value or []),
        tuple(state or []),
        commands(command or []),
        tip,
    )
    found = find(graph, controllers, urdf, dataset, bag, checkpoint, namespace, seconds)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    if on_a_terminal():
        choices = ask(found, choices)
    written = write(found, out, choices)
    keys = ", ".join(dict.fromkeys(written.guesses))
    typer.echo(f"{out}: {len(written.guesses)} guesses, marked `guess:`: {keys}")
    if written.model:
        typer.echo(f"{written.model}: the robot's model, for kinematics")
    if code := check_contract(out, namespace):
        raise typer.Exit(code)
