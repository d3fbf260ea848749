"""Learning over topics: the learner as a process of its own, beside a robot or a simulated one."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rewact_ros.runs import NEWEST, VERSIONS
from rewact_ros.settings import setting_of
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import (
    ParameterValue,
    Process,
    processes,
    transport_environment,
)

if TYPE_CHECKING:
    from rewact_ros.learning.rl.run_settings import SimEpisodeSettings
    from rewact_ros.stack.learner_watch import LearnerWatch, ShowFigures

RESULTS = "episodes.jsonl"
FIRST_VERSION_S, CATCH_UP_S = 300.0, 3600.0


@dataclass(frozen=True)
class SimulatedRobot:
    """The simulated arm to learn on.

    Attributes:
        episodes: of the run, those of its earlier starts among them.
        first_seed: scene of the first.
        episode: how episodes end, and who helps, as on the fast path.
        speed: simulated seconds per second.
        human_silence_s: a call for help that nobody answers for longer ends the episode.
    """

    episodes: int
    first_seed: int
    episode: "SimEpisodeSettings"
    speed: float = BringUp.real_time_factor
    task: str = BringUp.task
    human_silence_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a speed before policies are loaded; raises ValueError."""
        about = setting_of(BringUp, "real_time_factor").metadata
        low, high = about["low"], about["high"]
        if not low <= self.speed <= high:
            raise ValueError(f"speed: expected {low} to {high}, got {self.speed}")


def learn_over_topics(
    out: Path,
    learner: dict[str, ParameterValue],
    robot: SimulatedRobot | None,
    show: "ShowFigures",
    verbose: bool = False,
) -> None:
    """Run the learner, and the simulated robot if there is one, until the end or Ctrl-C.

    Args:
        out: folder of the run.
        learner: parameters of its node.
        robot: None: there is one already, in this ROS domain.
        show: called with the learner's newest figures and a line about where it stands.
        verbose: print the log of the nodes.

    Raises:
        LearningStopped: the learner says why it learns no more.
        BringUpError, StackError: a process cannot run.
    """
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from rewact_ros.stack.domain import own_domain
    from rewact_ros.stack.learner_watch import LearnerWatch
    from rewact_ros.stack.runner import Runner, node_log
    from rewact_ros.stack.stop_request import StopRequest

    out.mkdir(parents=True, exist_ok=True)
    newest = out / VERSIONS / NEWEST
    newest.unlink(missing_ok=True)  # of an earlier start
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        if robot is not None:
            stack.callback(own_domain().release)
        write = stack.enter_context(node_log(out, verbose))
        runners = [stack.enter_context(Runner([_process("learner", learner)], write))]
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        watch = stack.enter_context(LearnerWatch(runners, stop, show))
        watch.wait(newest.exists, FIRST_VERSION_S, "first version")
        if robot is None:
            watch.note = f"the robot learns along by `rewact up --learn {out}`"
            watch.wait(lambda: False, float("inf"), "end")
        else:
            args = _simulation(robot, out, str(learner["contract"]))
            runners.append(stack.enter_context(Runner(processes(args), write)))
            _run_episodes(robot, args.contract, out, watch)


def _process(name: str, parameters: dict[str, ParameterValue]) -> Process:
    return Process(
        name=name,
        module=f"rewact_ros.nodes.{name}",
        parameters=parameters,
        python=sys.executable,
        respawn=os.environ.get("WORLD_SIZE", "1") == "1",  # a team ends with its leader
        environment={"OMP_NUM_THREADS": "1", **transport_environment()},
    )


def _simulation(robot: SimulatedRobot, out: Path, contract: str) -> BringUp:
    params = out / "params.yaml"
    params.write_text(_params(robot, out))
    return BringUp(
        contract=contract,
        params_file=str(params),
        use_sim_time=robot.speed != 1.0,
        teleop="scripted_human" if robot.episode.human else "",
        learn=str(out),
        success_model=robot.episode.classifier,
        sim=True,
        task=robot.task,
        seed=robot.first_seed + _done(out),
        real_time_factor=robot.speed,
    )


def _params(robot: SimulatedRobot, out: Path) -> str:
    """Parameters under which episodes end, and help is called, as on the fast path."""
    episode = robot.episode
    ladder = f"hold {episode.hold_s:g}" if episode.human else "warn 0"
    nodes: dict[str, dict[str, ParameterValue]] = {
        "supervisor": {
            "threshold": episode.completion,
            "stall_s": episode.stall_s,
            "drawdown": episode.drawdown,
            "success_threshold": episode.success_threshold,
            "success_hold": episode.success_hold,
            "ladder_stall": ladder,
            "ladder_drawdown": ladder,
            "timeout_s": episode.limit_s,
            "human_silence_s": robot.human_silence_s,
            "state_dir": str(out.resolve()),
        },
        "scripted_human": {"judges": True},
        "hil": {"lease_timeout_s": 2.0},  # a learner keeps the machine busy; a simulation may wait
    }
    lines = []
    for node, values in nodes.items():
        lines += [f"/**/{node}:", "  ros__parameters:"]
        lines += [f"    {name}: {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _run_episodes(robot: SimulatedRobot, contract: str, out: Path, watch: "LearnerWatch") -> None:
    from rewact_ros.contract import load_contract
    from rewact_ros.sim.task import find_task
    from rewact_ros.stack.commander import Commander
    from rewact_ros.stack.episode_watch import EpisodeWatch

    with Commander(look_after=watch.poll) as commander:
        episodes = EpisodeWatch(commander, load_contract(contract))
        watch.note = "the simulated robot starts"
        commander.wait_until_ready()
        for number in range(_done(out), robot.episodes):
            watch.note = f"episode {number + 1} of {robot.episodes}"
            commander.arm()
            result, log = episodes.execute(find_task(robot.task).text, settle_s=0.3)
            truth = log.truth
            line = {
                "episode": result.episode_id,
                "success": result.success,
                "reason": result.reason,
                "duration_s": result.duration_s,
                "policy_version": log.policy_version,
                "seed": truth.seed if truth else None,
                "truth": bool(truth and truth.success),
            }
            with (out / RESULTS).open("a") as handle:
                handle.write(json.dumps(line) + "\n")
        commander.disarm()
        watch.note = "learns from the last episode"
        watch.wait(_caught_up(watch), CATCH_UP_S, "the learner")


def _caught_up(watch: "LearnerWatch") -> Callable[[], bool]:
    """Whether a status that was sent later than now shows nothing left to learn."""
    seen = watch.statuses

    def done() -> bool:
        return watch.statuses > seen + 1 and watch.figures.get("behind", 1.0) == 0

    return done


def _done(out: Path) -> int:
    """Episodes of earlier starts."""
    results = out / RESULTS
    return len(results.read_text().splitlines()) if results.is_file() else 0
