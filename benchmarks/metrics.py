"""What Prometheus costs: the processor of the node `metrics` beside the simulated robot at work."""

import http.client
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rewact_ros.bench.figures import Bench
from rewact_ros.ros.params import MetricsParams
from rewact_ros.sim.task import DEFAULT_TASK, find_task
from rewact_ros.stack.bringup import BringUp, default_policy
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.demo import unattended
from rewact_ros.stack.rig_stack import cpu_seconds, memory_mb
from rewact_ros.stack.runner import Runner

SEED = 270_000
SCRAPE_PERIOD_S = 5.0
COMPARED = ("hil", "supervisor", "recorder")


@dataclass
class Scraper:
    """Fetches the text every `SCRAPE_PERIOD_S` while a commander waits."""

    due_s: float = float("inf")
    took_ms: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def look(self) -> None:
        """Fetch it when it is due."""
        if time.monotonic() < self.due_s:
            return
        self.due_s += SCRAPE_PERIOD_S
        begun_s = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", MetricsParams().port, timeout=5.0)
        connection.request("GET", "/metrics")
        body = connection.getresponse().read()
        connection.close()
        self.took_ms.append((time.monotonic() - begun_s) * 1000.0)
        self.sizes.append(len(body))


def run(bench: Bench) -> None:
    """Five minutes of tasks, recorded, at the robot's own speed; `--quick` half a minute."""
    seconds = 30.0 if bench.quick else 300.0
    bench.settings.update(
        seconds=seconds, scrape_every_s=SCRAPE_PERIOD_S, seed=SEED, speed=1.0, task=DEFAULT_TASK
    )
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        args = BringUp(
            policy=default_policy(),
            params_file=str(unattended(folder)),
            bags_dir=str(folder / "bags"),
            seed=SEED,
            metrics=True,
        )
        scraper = Scraper()
        with Commander(args, look_after=scraper.look) as robot:
            assert robot.runner is not None
            robot.arm()
            robot.pause(SCRAPE_PERIOD_S)  # whatever happens once at the start is over
            before, begun_s = _spent(robot.runner), time.monotonic()
            scraper.due_s = begun_s
            while time.monotonic() < begun_s + seconds:
                robot.arm()
                robot.execute(find_task(DEFAULT_TASK).text)
            share = 100.0 / (time.monotonic() - begun_s)
            after = _spent(robot.runner)
            memory = memory_mb(robot.runner.pid("metrics"))
    scrapes = len(scraper.took_ms)
    bench.add("cpu", (after["metrics"] - before["metrics"]) * share, "% of a core", goal="<= 1")
    for name in COMPARED:
        bench.add(f"{name}_cpu", (after[name] - before[name]) * share, "% of a core")
    bench.add("memory", memory, "MB")
    bench.add("scrape_p50", float(np.percentile(scraper.took_ms, 50)), "ms", n=scrapes)
    bench.add("scrape_max", max(scraper.took_ms), "ms", n=scrapes)
    bench.add("text", max(scraper.sizes) / 1000.0, "kB", n=scrapes)


def _spent(runner: Runner) -> dict[str, float]:
    """Seconds of processor that processes have used so far."""
    return {name: cpu_seconds(runner.pid(name)) for name in ("metrics", *COMPARED)}
