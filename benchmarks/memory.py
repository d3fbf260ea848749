"""Memory of every process of the robot over an hour of simulated tasks, recorder included."""

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rewact_ros.bench.figures import Bench
from rewact_ros.msg import SimTruth
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns
from rewact_ros.sim.task import DEFAULT_TASK, find_task
from rewact_ros.stack.bringup import BringUp, default_policy
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.demo import unattended
from rewact_ros.stack.rig_stack import memory_mb
from rewact_ros.stack.runner import Runner

SEED = 260_000
SPEED = 2.0  # simulated seconds per second: what two cores keep up with
PERIOD_S = 2.0
WARM_UP_SHARE = 0.2  # of the samples: until every buffer has been used once
BLOCKS = 20  # neighbouring samples are alike: the interval is over means of so many blocks
WATCHED = ("policy", "hil", "supervisor", "recorder", "sim")


@dataclass
class Samples:
    """Resident memory by process, MB, with the simulated time of each sample in hours."""

    pids: dict[str, int]
    hours: list[float] = field(default_factory=list)
    memory_mb: dict[str, list[float]] = field(default_factory=dict)
    restarts: int = 0

    def take(self, runner: Runner, now_h: float) -> None:
        """Add one sample; a process that was started again begins anew and is counted."""
        pids = {name: runner.pid(name) for name in WATCHED}
        self.restarts += sum(self.pids[name] != pid for name, pid in pids.items())
        self.pids = pids
        try:
            found = {name: memory_mb(pid) for name, pid in pids.items()}
        except (OSError, StopIteration):  # one has just died
            return
        self.hours.append(now_h)
        for name, memory in found.items():
            self.memory_mb.setdefault(name, []).append(memory)


def run(bench: Bench) -> None:
    """An hour at `SPEED`; `--quick` a minute."""
    simulated_s = 60.0 if bench.quick else 3600.0
    samples, tasks = watch(simulated_s)
    bench.settings.update(
        simulated_s=simulated_s,
        speed=SPEED,
        seed=SEED,
        sampled_every_s=PERIOD_S,
        warm_up_share=WARM_UP_SHARE,
        interval=f"95 %, over the means of {BLOCKS} blocks",
    )
    first = round(WARM_UP_SHARE * len(samples.hours))
    hours = np.array(samples.hours[first:])
    for name in WATCHED:
        memory = np.array(samples.memory_mb[name][first:])
        bench.add(f"{name}_memory", float(memory[-1]), "MB", n=len(memory))
        slope, half = slope_of(hours, memory)
        bench.add(
            f"{name}_slope",
            slope,
            "MB per simulated hour",
            n=len(memory),
            low=slope - half,
            high=slope + half,
        )
    bench.add("simulated_time", samples.hours[-1] - samples.hours[0], "h")
    bench.add("tasks", tasks, "tasks")
    bench.add("restarts", samples.restarts, "processes", goal="0")


def slope_of(hours: np.ndarray, memory_mb: np.ndarray) -> tuple[float, float]:
    """Least squares over block means: (slope, half of its 95 % interval) in MB/h."""
    from scipy import stats

    blocks = np.array_split(np.arange(len(hours)), min(BLOCKS, len(hours)))
    x = np.array([hours[block].mean() for block in blocks])
    y = np.array([memory_mb[block].mean() for block in blocks])
    if np.ptp(y) == 0:  # linregress has no error for what never changes
        return 0.0, 0.0
    fit = stats.linregress(x, y)
    return float(fit.slope), float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)


def watch(simulated_s: float) -> tuple[Samples, int]:
    """Run tasks for so long on the recorded stack; returns the samples and how many tasks."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        args = BringUp(
            policy=default_policy(),
            params_file=str(unattended(folder)),
            use_sim_time=True,
            bags_dir=str(folder / "bags"),
            sim=True,
            seed=SEED,
            real_time_factor=SPEED,
        )
        sampler = Sampler()
        with Commander(args, look_after=sampler.look) as robot:
            tasks, end_h = 0, sampler.begin(robot) + simulated_s / 3600.0
            while sampler.now_h < end_h:
                robot.arm()
                robot.execute(find_task(DEFAULT_TASK).text)
                robot.pause(0.2)
                tasks += 1
                for bag in sorted((folder / "bags").iterdir())[:-1]:
                    shutil.rmtree(bag, ignore_errors=True)
        return sampler.samples, tasks


class Sampler:
    """Samples the memory of the processes while a commander waits."""

    def __init__(self) -> None:
        self.now_h = 0.0
        self._due_s = float("inf")

    def begin(self, robot: Commander) -> float:
        """Sample from now on; returns the simulated time in hours."""
        assert robot.runner is not None
        self._runner = robot.runner
        self.samples = Samples({name: self._runner.pid(name) for name in WATCHED})
        robot.node.create_subscription(SimTruth, names.SIM_TRUTH, self._keep_time, names.EVENTS)
        robot.wait(lambda: self.now_h > 0.0, 30.0, "simulated time")
        self._due_s = time.monotonic()
        return self.now_h

    def _keep_time(self, msg: SimTruth) -> None:
        self.now_h = to_ns(msg.header.stamp) / 3.6e12

    def look(self) -> None:
        """Take a sample when one is due."""
        if time.monotonic() >= self._due_s:
            self._due_s += PERIOD_S
            self.samples.take(self._runner, self.now_h)
