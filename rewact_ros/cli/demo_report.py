"""What a demo leaves behind: a line per task, a picture per task, one table, `summary.json`."""

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rewact_ros.msg import Timing
from rewact_ros.runs import machine
from rewact_ros.stack.bringup import BringUp
from rewact_ros.stack.episode_watch import EpisodeLog
from rewact_ros.stack.task import TaskResult
from rewact_ros.text import printable

STRIP_FRAMES = 8


@dataclass(frozen=True)
class Row:
    """One task: the verdict beside the truth. Times in seconds, NaN where undefined."""

    seed: int
    verdict: str
    truth: str
    duration_s: float
    peak_reward: float
    detection_delay_s: float
    reason: str
    stage: str
    failure: str

    @property
    def right(self) -> bool:
        """Whether verdict and truth agree."""
        return self.verdict == self.truth


class DemoReport:
    """Collects episodes as they end and writes everything into one folder."""

    def __init__(self, folder: Path, first_seed: int, args: BringUp) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self._first_seed = first_seed
        self._args = args
        self._timings: dict[str, dict[str, float]] = {}
        self._version = ""
        # A log file or pipe has no width of its own; 80 columns would cut the words.
        self._console = Console(width=None if sys.stdout.isatty() else 110)

    def add(self, result: TaskResult, log: EpisodeLog) -> None:
        """Take one episode."""
        truth = log.truth
        row = Row(
            seed=int(truth.seed) if truth else self._first_seed + len(self.rows),
            verdict=result.outcome.name.lower(),
            truth="success" if truth and truth.success else "failure",
            duration_s=result.duration_s,
            peak_reward=math.nan if result.peak_reward is None else result.peak_reward,
            # Only a success that was both true and found has a delay.
            detection_delay_s=log.verdict_s - log.true_success_s if result.success else math.nan,
            reason=result.reason,
            stage=truth.stage if truth else "",
            failure=truth.failure if truth else "",
        )
        self.rows.append(row)
        self._version = log.policy_version or self._version
        picture(self.folder / f"episode-{row.seed}.png", log, row)
        mark = "[green]✓[/]" if row.right else "[red]✗[/]"
        self._console.print(
            f"{mark} seed {row.seed}: verdict {row.verdict}, truth {row.truth}, "
            f"{row.duration_s:.1f} s"
            f" — {escape(printable(row.reason))}"
        )

    def timings(self, timings: dict[str, Timing]) -> None:
        """Take hil's figures of the whole run."""
        keys = {"observation_to_command": "latency_ms", "command_interval": "command_interval_ms"}
        for name, key in keys.items():
            t = timings[name]
            self._timings[key] = {
                "p50": t.p50_ms,
                "p95": t.p95_ms,
                "p99": t.p99_ms,
                "max": t.max_ms,
                "n": t.n,
            }

    def finish(self) -> None:
        """Print the tables and write `summary.json`."""
        self._console.print(self._episode_table())
        self._console.print(self._timing_table())
        (self.folder / "summary.json").write_text(json.dumps(self.summary(), indent=2) + "\n")

    def summary(self) -> dict[str, Any]:
        """Content of `summary.json`; undefined figures are null."""
        episodes = [
            {k: _null(v) for k, v in asdict(row).items()} | {"verdict_right": row.right}
            for row in self.rows
        ]
        return {
            "episodes": episodes,
            "true_successes": sum(row.truth == "success" for row in self.rows),
            "verdicts_right": sum(row.right for row in self.rows),
            **self._timings,
            "policy_version": self._version,
            "settings": {k: str(v) for k, v in asdict(self._args).items()},
            "machine": machine(),
        }

    def _episode_table(self) -> Table:
        table = Table(title=f"{len(self.rows)} tasks, policy {self._version}")
        for name in (
            "seed",
            "verdict",
            "true outcome",
            "right",
            "duration s",
            "peak reward",
            "detection delay s",
        ):
            table.add_column(
                name, justify="left" if name in ("verdict", "true outcome") else "right"
            )
        for row in self.rows:
            truth = row.truth if row.truth == "success" else f"failure ({row.failure or row.stage})"
            table.add_row(
                str(row.seed),
                row.verdict,
                truth,
                "yes" if row.right else "NO",
                f"{row.duration_s:.1f}",
                f"{row.peak_reward:.2f}",
                "–" if math.isnan(row.detection_delay_s) else f"{row.detection_delay_s:+.2f}",
            )
        n = len(self.rows)
        table.add_section()
        table.add_row(
            f"{n} tasks",
            f"{sum(r.verdict == 'success' for r in self.rows)} success",
            f"{sum(r.truth == 'success' for r in self.rows)} success",
            f"{sum(r.right for r in self.rows)}/{n}",
            f"{np.median([r.duration_s for r in self.rows]):.1f}",
            "",
            _median([r.detection_delay_s for r in self.rows]),
        )
        return table

    def _timing_table(self) -> Table:
        table = Table(title="timing, ms")
        for name in ("", "p50", "p95", "p99", "max", "n"):
            table.add_column(name, justify="left" if not name else "right")
        titles = {"latency_ms": "observation → command", "command_interval_ms": "command interval"}
        for key, title in titles.items():
            t = self._timings[key]
            table.add_row(
                title, *(f"{t[k]:.1f}" for k in ("p50", "p95", "p99", "max")), f"{t['n']}"
            )
        return table


def picture(path: Path, log: EpisodeLog, row: Row) -> None:
    """Draw one episode: camera strip over the reward curve."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import patheffects
    from matplotlib import pyplot as plt

    figure, (strip, curve) = plt.subplots(
        2, 1, figsize=(10, 4.2), height_ratios=(1, 1.3), layout="constrained"
    )
    strip.axis("off")
    if log.frames:
        picks = np.unique(np.linspace(0, len(log.frames) - 1, STRIP_FRAMES).round().astype(int))
        strip.imshow(np.concatenate([log.frames[i][1] for i in picks], axis=1))
        height, width, _ = log.frames[0][1].shape
        for k, i in enumerate(picks):
            seconds = log.frames[i][0] - log.running_s
            label = strip.text(
                k * width + 4, height - 5, f"{seconds:.1f} s", color="white", fontsize=8
            )
            label.set_path_effects([patheffects.withStroke(linewidth=2, foreground="black")])
    strip.set_title(
        f"seed {row.seed}: verdict {row.verdict}, truth {row.truth} — {row.reason}", fontsize=10
    )
    if log.rewards:
        stamps, values = np.array(log.rewards).T
        curve.plot(stamps - log.running_s, values, color="tab:blue", label="predicted reward")
    marks = (
        ("true success", log.true_success_s, "tab:green"),
        ("verdict", log.verdict_s, "tab:red"),
    )
    for label, time_s, colour in marks:
        if not math.isnan(time_s):
            curve.axvline(time_s - log.running_s, color=colour, linestyle="--", label=label)
    curve.set(xlabel="time since start, s", ylabel="reward", ylim=(-0.03, 1.03))
    curve.grid(alpha=0.3)
    curve.legend(loc="upper left", fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _median(values: list[float]) -> str:
    known = [v for v in values if not math.isnan(v)]
    return f"{np.median(known):+.2f}" if known else "–"
