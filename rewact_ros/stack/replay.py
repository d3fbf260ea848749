"""Recorded episodes played to the stack, which is started in dry-run where there is none."""

import contextlib
import os
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions

from rewact_ros.contract import load_contract
from rewact_ros.data.dataset.episodes import RecordedEpisodes
from rewact_ros.data.dataset.info import parse_episodes
from rewact_ros.runs import new_run
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import processes, transport_environment
from rewact_ros.stack.domain import own_domain
from rewact_ros.stack.replay_robot import ReplayReport, ReplayRobot
from rewact_ros.stack.runner import Runner, node_log


def run_replay(
    dataset: Path,
    contract: str,
    episodes: str,
    policy: str = "",
    out: str = "",
    verbose: bool = False,
) -> Path:
    """Play and report; returns the folder of the report.

    Args:
        dataset: folder of a LeRobotDataset v3.
        contract: file of the recorded robot.
        episodes: which, such as 0:3 or 1,4; "": all.
        policy: checkpoint of the stack to start; "": data goes to a running stack.
        out: folder; "": one in `runs`.
        verbose: print the log of the nodes.

    Raises:
        DatasetError, ContractError: no such episodes, or another robot's.
        BringUpError, StackError: a process cannot run, or does not answer.
    """
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
