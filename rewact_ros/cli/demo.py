"""`rewact demo`: the simulated robot, the trained policy, ten tasks, one table."""

from typing import Annotated

import typer

from rewact_ros.cli.options import TaskName
from rewact_ros.sim.task import DEFAULT_TASK

SEED = 300_000


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
    rerun: Annotated[
        str,
        typer.Option(
            help="Show it live, too: a Rerun viewer such as rerun+http://127.0.0.1:9876/proxy, or "
            "an .rrd file (needs the extra rerun)."
        ),
    ] = "",
    verbose: Annotated[bool, typer.Option(help="Show the log of the nodes.")] = False,
    task: TaskName = DEFAULT_TASK,
) -> None:
    """Run the whole stack headless on unseen scenes and print what it did."""
    from rewact_ros.cli.demo_report import print_tables
    from rewact_ros.stack.demo import run_demo

    record = run_demo(
        episodes, seed, policy, contract, out, timeout_s, verbose, task, typer.echo, rerun
    )
    print_tables(record)
    typer.echo(f"pictures and summary.json: {record.folder}")
