"""Faults in the middle of real episodes: all processes run, and the supervisor is watched."""

import contextlib
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from faulty_sim import FAULTS
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import Trigger

from rewact_ros.bench.figures import Bench
from rewact_ros.msg import EpisodeEvent, Reward, RewardFeatures, SupervisorStatus
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import NANO, to_ns
from rewact_ros.sim.task import DEFAULT_TASK, find_task
from rewact_ros.stack.bringup import BringUp, Process, default_contract, processes
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.domain import own_domain
from rewact_ros.stack.rig_stack import cpu_seconds
from rewact_ros.stack.runner import Runner, node_log
from rewact_ros.supervision.calibration import Calibration
from rewact_ros.supervision.signals import PolicySample, Signals, SignalTracker

SEED = 270_000
HEALTHY = "none"
TASK, TIMEOUT_S = find_task(DEFAULT_TASK).text, 20.0
# The fault comes while the arm reaches, grasps or carries.
_EARLIEST_S, _LATEST_S = 0.5, 3.0
_AFTER_HELP_S = 1.0
_ATTEMPTS = 4
_EVERY_STATUS = QoSProfile(depth=50, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass
class Seen:
    """What was published during an episode; times are stamps in seconds."""

    fault: str
    fault_s: float = math.nan
    statuses: list[tuple[float, SupervisorStatus]] = field(default_factory=list)
    events: list[tuple[float, EpisodeEvent]] = field(default_factory=list)
    rewards: list[tuple[float, Reward]] = field(default_factory=list)
    features: list[tuple[float, RewardFeatures]] = field(default_factory=list)

    def time_of(self, event: int) -> float:
        """When an event first came, NaN: never."""
        return next((t for t, m in self.events if m.event == event), math.nan)

    @property
    def alarm_s(self) -> float:
        """When an alarm first stood after the fault (without one: after the start)."""
        begun_s = self.time_of(EpisodeEvent.RUNNING) if math.isnan(self.fault_s) else self.fault_s
        times = [t for t, m in self.statuses if m.alarms and t >= begun_s]
        times += [t for t, m in self.events if m.event == EpisodeEvent.WARNING and t >= begun_s]
        return min(times, default=math.nan)

    @property
    def alarms(self) -> list[str]:
        """Every signal that raised one."""
        return sorted({name for _, message in self.statuses for name in message.alarms})

    @property
    def verdict(self) -> EpisodeEvent:
        """How the episode ended."""
        return next(m for _, m in self.events if m.event == EpisodeEvent.VERDICT)

    @property
    def late(self) -> bool:
        """Whether hil stopped the arm, for late inputs, before the supervisor had a say."""
        helped = not math.isnan(self.time_of(EpisodeEvent.HELP))
        return self.verdict.termination_reason == "hold" and not helped

    def signals(self, calibration: Calibration) -> list[Signals]:
        """The monitor's signals at each reward of the running phase."""
        tracker = SignalTracker(calibration.signals, calibration.distance)
        begun_s = self.time_of(EpisodeEvent.RUNNING)
        features = {t: np.array(m.features, np.float32) for t, m in self.features}
        return [
            tracker.add(PolicySample(t, m.value, m.q10, m.entropy, features.get(t)))
            for t, m in self.rewards
            if t >= begun_s
        ]


@dataclass(frozen=True)
class Watched:
    """All episodes.

    Attributes:
        episodes: what was seen.
        cpu_share: of one core that the supervisor used in healthy episodes.
        held: how many more were left out because hil stopped the arm for late inputs, as happens
            on a busy machine.
    """

    episodes: list[Seen]
    cpu_share: float
    held: int


class Watcher:
    """Runs episodes by a commander and keeps what the supervisor says."""

    def __init__(self, robot: Commander) -> None:
        self.robot = robot
        self.seen = Seen(HEALTHY)
        node = robot.node
        self._faults = {fault: node.create_client(Trigger, f"sim/{fault}") for fault in FAULTS}
        for kind, topic, keep, qos in (
            (SupervisorStatus, names.SUPERVISOR_STATUS, "statuses", _EVERY_STATUS),
            (EpisodeEvent, names.EPISODE_EVENT, "events", names.EVENTS),
            (Reward, names.REWARD, "rewards", names.EVENTS),
            (RewardFeatures, names.REWARD_FEATURES, "features", names.EVENTS),
        ):
            node.create_subscription(
                kind,
                topic,
                lambda m, keep=keep: getattr(self.seen, keep).append(
                    (to_ns(m.header.stamp) / NANO, m)
                ),
                qos,
            )

    def wait_for(self, event: int, timeout_s: float, other: int | None = None) -> None:
        """Wait until an event (or another one) has come."""
        wanted = {event, event if other is None else other}
        self.robot.wait(
            lambda: any(m.event in wanted for _, m in self.seen.events), timeout_s, f"event {event}"
        )

    def run_episode(self, fault: str, delay_s: float) -> Seen:
        """Run a task, spoil it so long after its start, and stop it once a human is asked for."""
        self.seen = seen = Seen(fault)
        robot = self.robot
        robot.wait_until_ready()
        robot.trigger("sim/mend")
        for client in self._faults.values():  # found before, so that a fault comes when it should
            robot.wait(client.service_is_ready, 10.0, f"service {client.srv_name}")
        robot.arm()
        task = robot.start(TASK, TIMEOUT_S)
        self.wait_for(EpisodeEvent.RUNNING, 30.0, EpisodeEvent.VERDICT)
        if fault != HEALTHY:
            robot.pause(delay_s)
            done = self._faults[fault].call_async(Trigger.Request())
            seen.fault_s = time.time()
            robot.wait(done.done, 10.0, f"service sim/{fault}")
        self.wait_for(EpisodeEvent.VERDICT, TIMEOUT_S + 30.0, EpisodeEvent.HELP)
        if math.isnan(seen.time_of(EpisodeEvent.VERDICT)):
            robot.pause(_AFTER_HELP_S)
            task.cancel()
            self.wait_for(EpisodeEvent.VERDICT, 10.0)
        else:
            task.result()
        robot.pause(0.2)
        return seen


def run_episodes(policy: Path, calibration: Path, trials: int, folder: Path) -> Watched:
    """Run healthy and faulty episodes in turn."""
    args = BringUp(contract=default_contract(), policy=str(policy), sim=True, seed=SEED)
    rng, found, used_s, ran_s, held = random.Random(0), [], 0.0, 0.0, 0
    with _stack(args, calibration, folder) as (watcher, runner):
        for _ in range(trials):
            for fault in (HEALTHY, *FAULTS):
                supervisor = runner.pid("supervisor")
                delay_s = rng.uniform(_EARLIEST_S, _LATEST_S)
                for _ in range(_ATTEMPTS):
                    before_s, started_s = cpu_seconds(supervisor), time.monotonic()
                    seen = watcher.run_episode(fault, delay_s)
                    if seen.late:
                        held += 1
                        continue
                    found.append(seen)
                    if fault == HEALTHY:
                        used_s += cpu_seconds(supervisor) - before_s
                        ran_s += time.monotonic() - started_s
                    break
    missing = {HEALTHY, *FAULTS} - {seen.fault for seen in found}
    if missing:
        raise RuntimeError(f"{', '.join(missing)}: hil stopped every episode: the machine is busy")
    return Watched(found, used_s / ran_s, held)


@contextlib.contextmanager
def _stack(args: BringUp, calibration: Path, folder: Path) -> Iterator[tuple[Watcher, Runner]]:
    """All processes, with the simulation that can go wrong."""
    with contextlib.ExitStack() as stack:
        stack.callback(own_domain().release)
        write = stack.enter_context(node_log(folder, verbose=False))
        state = stack.enter_context(tempfile.TemporaryDirectory())
        judging = {"calibration": str(calibration.absolute()), "state_dir": state}
        nodes = [_changed(process, judging) for process in processes(args)]
        runner = stack.enter_context(Runner(nodes, write))
        robot = stack.enter_context(Commander(look_after=runner.poll))
        yield Watcher(robot), runner


def _changed(process: Process, judging: dict[str, str]) -> Process:
    if process.name == "supervisor":
        return replace(process, parameters={**process.parameters, **judging})
    if process.name == "sim":
        environment = {**process.environment, "PYTHONPATH": str(Path(__file__).parent)}
        return replace(process, module="faulty_sim", environment=environment)
    return process


def add_figures(bench: Bench, watched: Watched) -> None:
    """Delays and outcomes per fault."""
    episodes = watched.episodes
    bench.add("episodes_left_out_for_late_inputs", watched.held, "episodes", n=len(episodes))
    bench.add(
        "supervisor_cpu",
        100 * watched.cpu_share,
        "% of a core, 20 Hz",
        goal="≤ 5",
        n=sum(seen.fault == HEALTHY for seen in episodes),
    )
    bench.settings["alarms"] = {}
    for fault in (HEALTHY, *FAULTS):
        own = [seen for seen in episodes if seen.fault == fault]
        bench.settings["alarms"][fault] = sorted({name for seen in own for name in seen.alarms})
        helped = [not math.isnan(seen.time_of(EpisodeEvent.HELP)) for seen in own]
        succeeded = [seen.verdict.outcome == EpisodeEvent.SUCCESS for seen in own]
        goals = ("0", "1") if fault == HEALTHY else ("1", "0")
        for name, flags, goal in (
            ("asked_for_a_human", helped, goals[0]),
            ("called_complete", succeeded, goals[1]),
        ):
            low, high = wilson_interval(sum(flags), len(flags))
            bench.add(
                f"{fault}_{name}",
                sum(flags) / len(flags),
                "share",
                goal=goal,
                n=len(flags),
                low=low,
                high=high,
            )
        if fault != HEALTHY:
            _add_delay(bench, f"{fault}_to_alarm", [s.alarm_s - s.fault_s for s in own])
            help_s = [s.time_of(EpisodeEvent.HELP) - s.fault_s for s in own]
            _add_delay(bench, f"{fault}_to_hold", help_s)


def _add_delay(bench: Bench, name: str, delays_s: list[float]) -> None:
    known = [delay for delay in delays_s if not math.isnan(delay)]
    if known:
        bench.add(
            name,
            statistics.median(known),
            "s, median",
            n=len(known),
            low=min(known),
            high=max(known),
        )
