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
    folder = run_replay(dataset, contract, episodes, policy, out, verbose)
    typer.echo(f"report: {folder}")


def run_replay(
    dataset: Path,
    contract: str,
    episodes: str,
    policy: str = "",
    out: str = "",
    verbose: bool = False,
) -> Path:
    """Play and report; returns the folder of the report."""
    import contextlib
    import os

    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from rewact_ros.contract import load_contract
    from rewact_ros.data.dataset.episodes import RecordedEpisodes
    from rewact_ros.learning.imitation.demonstrations import parse_episodes
    from rewact_ros.runs import new_run
    from rewact_ros.stack.bringup import BringUp, processes, transport_environment
    from rewact_ros.stack.domain import own_domain
    from rewact_ros.stack.replay_robot import ReplayReport, ReplayRobot
    from rewact_ros.stack.runner import Runner, node_log

    robot_contract = load_contract(contract)
    recorded = RecordedEpisodes(dataset, robot_contract)
    chosen = parse_episodes(episodes or f"0:{recorded.total}", recorded.total)
    folder = Path(out) if out else new_run("replay")
    folder.mkdir(parents=True, exist_ok=True)
    report = ReplayReport(folder, robot_contract)
    os.environ.update(transport_environment())
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(node_log(folder, verbose))
        runner = None
        if policy:
            stack.callback(own_domain().release)
            args = BringUp(contract=contract, policy=policy, dry_run=True)
            runner = stack.enter_context(Runner(processes(args), write))
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        robot = ReplayRobot(robot_contract, runner.poll if runner else lambda: None)
        stack.callback(robot.close)
        for index in chosen:
            report.add(robot.play(recorded.episode(index), recorded.images(index)))
    report.finish()
    return folder
