"""`rewact visualise`: an episode as a video with the reward drawn in, or for the Rerun viewer."""

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewact_ros.cli.options import TaskName
from rewact_ros.sim.task import DEFAULT_TASK

if TYPE_CHECKING:
    from rewact_ros.learning.evaluation.film import Film

# So long nothing may come of a robot that runs before that is told.
QUIET_S, POLL_S = 10.0, 0.1


def visualise(
    policy: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; without it, what was recorded is shown.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="Folder of a LeRobotDataset v3.")] = None,
    episodes: Annotated[str, typer.Option(help="Of the dataset, e.g. 0:3 or 1,4.")] = "0",
    bag: Annotated[Path | None, typer.Option(help="Folder or .mcap file of a recording.")] = None,
    contract: Annotated[
        Path | None,
        typer.Option(help="Of the bag's, or the running, robot (default: the task's)."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="The robot that runs, until Ctrl-C; with --rerun.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="Of the bag's, or the running, robot.")] = "",
    sim: Annotated[
        bool, typer.Option("--sim", help="Let the policy drive the simulation.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Scene of the simulation.")] = 100_000,
    out: Annotated[
        Path | None,
        typer.Option(help="An .mp4 file, or a folder (default: runs/<time>-visualise)."),
    ] = None,
    rerun: Annotated[
        str | None,
        typer.Option(
            help="For the Rerun viewer instead: an .rrd file, a folder of them, or with --live a "
            "viewer such as rerun+http://127.0.0.1:9876/proxy (not with --sim; needs the extra "
            "rerun)."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    task: TaskName = DEFAULT_TASK,
) -> None:
    """Write a video that plays in a browser with a picture of the whole, or a Rerun recording."""
    if (dataset is not None) + (bag is not None) + sim + live != 1:
        raise ValueError("give one of --dataset, --bag, --sim and --live")
    if live:
        if rerun is None or out is not None or policy is not None:
            raise ValueError(
                "--live: expected --rerun with a viewer or a file, no --out, no --policy"
            )
        return _show_live(rerun, contract, namespace, task)
    if sim and policy is None:
        raise ValueError("--sim: expected --policy, the checkpoint that drives, got none")
    if rerun is not None:
        if sim or out is not None:
            raise ValueError("--rerun: expected --dataset, --bag or --live, and no --out")
        from rewact_ros.data.video.rerun_file import import_rerun
        from rewact_ros.data.video.rerun_viewer import is_address

        if is_address(rerun):
            raise ValueError(f"--rerun {rerun}: a viewer goes with --live; expected a file here")
        import_rerun()  # before anything is read
    from rewact_ros.policy.checkpoint import load_policy
    from rewact_ros.runs import new_run, require_writable

    viewed = Path(rerun) if rerun else None
    require_writable(viewed or out)
    loaded = load_policy(policy, device) if policy else None
    suffix = ".mp4" if rerun is None else ".rrd"
    out = viewed or out or new_run("visualise")

    def report(film: "Film") -> None:
        beside = "" if rerun else f" and {film.path.with_suffix('.png').name}"
        typer.echo(f"written: {film.path} ({film.frames} frames){beside}")

    if dataset is not None:
        from rewact_ros.data.dataset.info import parse_episodes
        from rewact_ros.data.dataset.reader import open_dataset
        from rewact_ros.learning.evaluation.film import film_dataset
        from rewact_ros.learning.evaluation.rerun_views import view_dataset

        show_dataset = view_dataset if rerun else film_dataset
        opened = open_dataset(dataset)
        chosen = parse_episodes(episodes, opened.meta.total_episodes)
        if len(chosen) > 1 and out.suffix == suffix:
            option = "--rerun" if rerun else "--out"
            raise ValueError(f"{option} {out}: {len(chosen)} episodes need a folder, not one file")
        for index in chosen:
            report(show_dataset(opened, index, loaded, _file(out, f"episode-{index:06d}", suffix)))
    elif bag is not None:
        from rewact_ros.contract import load_contract
        from rewact_ros.data.bags.reader import Bag
        from rewact_ros.learning.evaluation.film import film_bag
        from rewact_ros.learning.evaluation.rerun_views import view_bag
        from rewact_ros.stack.bringup import default_contract

        robot = load_contract(contract or default_contract(task))
        with Bag(bag, namespace) as recording:
            show_bag = view_bag if rerun else film_bag
            film = show_bag(recording, robot, loaded, _file(out, bag.stem, suffix))
            report(film)
            _report_losses(film)
    elif loaded is not None:
        from rewact_ros.contract import load_contract
        from rewact_ros.episodes.rollout_dataset import simulation
        from rewact_ros.learning.evaluation.film import film_simulation
        from rewact_ros.policy.compatibility import fitted
        from rewact_ros.sim.task import find_task
        from rewact_ros.stack.bringup import default_contract

        contract_of_task = load_contract(default_contract(task))
        loaded = fitted(loaded, contract_of_task, find_task(task).robot_model)
        with simulation(contract_of_task, task) as robot:
            film, rollout = film_simulation(loaded, robot, seed, _file(out, f"seed-{seed}", suffix))
        report(film)
        verdict = "success" if rollout.success else f"failed at {rollout.stage}"
        typer.echo(f"seed {seed}: {verdict} after {rollout.duration_s:.1f} s")


def _show_live(rerun: str, contract: Path | None, namespace: str, task: str) -> None:
    """Send what a robot says to a viewer, or write it to a file, until Ctrl-C."""
    from rewact_ros.contract import load_contract
    from rewact_ros.stack.bringup import default_contract
    from rewact_ros.stack.rerun_live import live_log, live_view
    from rewact_ros.stack.stop_request import StopRequest

    robot = load_contract(contract or default_contract(task))
    with live_view(live_log(rerun, robot), robot, namespace) as live:
        typer.echo(f"shown in {rerun} until Ctrl-C")
        late_s = time.monotonic() + QUIET_S
        with suppress(KeyboardInterrupt), StopRequest() as stop:
            while not stop.given:
                time.sleep(POLL_S)
                if not live.messages and time.monotonic() > late_s:
                    typer.echo(f"no message for {QUIET_S:g} s; rewact doctor says why", err=True)
                    late_s = time.monotonic() + QUIET_S
    typer.echo(f"{live.messages} messages")
    for topic, count in live.refused.items():
        typer.echo(f"{count} messages of {topic} did not fit the contract")


def _file(out: Path, name: str, suffix: str) -> Path:
    return out if out.suffix == suffix else out / f"{name}{suffix}"


def _report_losses(film: "Film") -> None:
    """Say what of a bag did not become an observation."""
    if film.incomplete:
        typer.echo(f"{film.incomplete} images had no complete observation and are not shown")
    for topic, count in film.refused.items():
        typer.echo(f"{count} messages of {topic} did not fit the contract, as they would live")
