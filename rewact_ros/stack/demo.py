"""The simulated robot, a policy and the whole stack over some unseen scenes."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from rewact_ros.contract import load_contract
from rewact_ros.runs import new_run
from rewact_ros.sim.task import DEFAULT_TASK, find_task
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import default_contract, default_policy
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.demo_record import DemoRecord
from rewact_ros.stack.episode_watch import EpisodeWatch
from rewact_ros.stack.rerun_live import live_log, live_view
from rewact_ros.stack.runner import node_log

# A call for help is given up after this: nobody is there.
SILENCE_S = 0.5


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
    show: Callable[[str], None] = print,
    rerun: str = "",
) -> DemoRecord:
    """Run the demo, and write pictures and `summary.json` into its folder.

    Args:
        episodes: how many.
        seed: scene of the first; the next one counts up.
        policy, contract: "": the task's.
        out: folder; "": one in `runs`.
        timeout_s: running time per episode; 0: the supervisor's.
        verbose: print the log of the nodes.
        task: simulated one.
        show: called with a line at the start and after every episode.
        rerun: viewer or file that shows it live (`live_log`); "": none.

    Raises:
        RerunMissingError, ValueError: as `live_log`.
        BringUpError, StackError: a process cannot run, or does not answer.
    """
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
    robot_contract = load_contract(args.contract)
    log = live_log(rerun, robot_contract) if rerun else None  # its faults before anything starts
    record = DemoRecord(folder, seed, args)
    show("starting robot, policy, hil and supervisor")
    with (
        node_log(folder, verbose) as write,
        Commander(args, write=write) as robot,
        live_view(log, robot_contract) if log else nullcontext(),
    ):
        show(f"they run in ROS domain {os.environ['ROS_DOMAIN_ID']}")
        watch = EpisodeWatch(robot, robot_contract)
        for _ in range(episodes):
            robot.arm()
            show(record.add(*watch.execute(find_task(task).text, timeout_s)).line)
        robot.disarm()
        record.take_timings(robot.timings())
    record.save()
    return record
