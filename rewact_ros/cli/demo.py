"""`rewact demo`: the simulated robot, the trained policy, ten tasks, one table."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from rewact_ros.cli.options import TaskName
from rewact_ros.sim.task import DEFAULT_TASK

SEED = 300_000
# A call for help is given up after this: nobody is there.
SILENCE_S = 0.5


def demo(
    episodes: Annotated[int, typer.Option(min=1, help="Number of tasks.")] = 10,
    seed: Annotated[
        int, typer.Option(min=0, help="Scene of the first task; the next one counts up.")
    ] = SEED,
    policy: Annotated[str, typer.Option(help="Checkpoint folder; default: the task's.")] = "",
    contract: Annotated[str, typer.Option(help="Contract file; default: the task's.")] = "",
    out: Annotated[
        str, typer.Option(help="Folder for the results; default: runs/<time>-demo.")
    ] = "",
    timeout_s: Annotated[
        float, typer.Option(min=0.0, help="Running time per task; 0: default.")
    ] = 0.0,
    verbose: Annotated[bool, typer.Option(help="Show the log of the nodes.")] = False,
    task: TaskName = DEFAULT_TASK,
) -> None:
    """Run the whole stack headless on unseen scenes and print what it did."""
    folder, complete = run_demo(episodes, seed, policy, contract, out, timeout_s, verbose, task)
    typer.echo(f"pictures and summary.json: {folder}")
    raise typer.Exit(0 if complete else 1)


def unattended(folder: Path) -> Path:
    """Parameters for a robot that nobody watches, and that remembers nothing of other runs."""
    file = folder / "params.yaml"
    file.write_text(
        "/**/supervisor:\n  ros__parameters:\n"
        f"    human_silence_s: {SILENCE_S}\n    state_dir: {json.dumps(str(folder.resolve()))}\n"
    )
    return file


def run_demo(
    episodes: int,
    seed: int,
    policy: str = "",
    contract: str = "",
    out: str = "",
    timeout_s: float = 0.0,
    verbose: bool = False,
    task: str = DEFAULT_TASK,
) -> tuple[Path, bool]:
    """Run the demo; returns the folder of its results and whether every task ran to a verdict."""
    from rewact_ros.cli.demo_report import DemoReport
    from rewact_ros.contract import load_contract
    from rewact_ros.runs import new_run
    from rewact_ros.sim.task import find_task
    from rewact_ros.stack.bringup import BringUp, default_contract, default_policy
    from rewact_ros.stack.commander import Commander
    from rewact_ros.stack.episode_watch import EpisodeWatch
    from rewact_ros.stack.runner import node_log

    folder = Path(out) if out else new_run("demo")
    folder.mkdir(parents=True, exist_ok=True)
    args = BringUp(
        contract=contract or default_contract(task),
        policy=policy or default_policy(task),
        params_file=str(unattended(folder)),
        sim=True,
        task=task,
        seed=seed,
    )
    report = DemoReport(folder, seed, args)
    typer.echo("starting robot, policy, hil and supervisor")
    with node_log(folder, verbose) as write, Commander(args, write=write) as robot:
        typer.echo(f"they run in ROS domain {os.environ['ROS_DOMAIN_ID']}")
        watch = EpisodeWatch(robot, load_contract(args.contract))
        for _ in range(episodes):
            robot.arm()
            report.add(*watch.execute(find_task(task).text, timeout_s))
        robot.disarm()
        report.timings(robot.timings())
    report.finish()
    return folder, len(report.rows) == episodes
