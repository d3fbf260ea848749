"""What a demo leaves behind: a picture per task and `summary.json`."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rewact_ros.msg import Timing
from rewact_ros.runs import machine
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.episode_watch import EpisodeLog
from rewact_ros.stack.task import TaskResult
from rewact_ros.text import printable

STRIP_FRAMES = 8


@dataclass(frozen=True)
class DemoEpisode:
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

    @property
    def line(self) -> str:
        """The episode for a terminal."""
        return (
            f"{'✓' if self.right else '✗'} seed {self.seed}: verdict {self.verdict}, truth "
            f"{self.truth}, {self.duration_s:.1f} s — {printable(self.reason)}"
        )


class DemoRecord:
    """Collects episodes as they end and writes everything into one folder.

    Args:
        folder: for pictures and `summary.json`.
        first_seed: scene of the first episode.
        args: what was started.

    Attributes:
        rows: the episodes.
        timings: percentiles in ms, by figure.
        version: of the policy.
    """

    def __init__(self, folder: Path, first_seed: int, args: BringUp) -> None:
        self.folder = folder
        self.rows: list[DemoEpisode] = []
        self._first_seed = first_seed
        self._args = args
        self.timings: dict[str, dict[str, float]] = {}
        self.version = ""

    def add(self, result: TaskResult, log: EpisodeLog) -> DemoEpisode:
        """Take one episode and draw it."""
        truth = log.truth
        row = DemoEpisode(
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
        self.version = log.policy_version or self.version
        picture(self.folder / f"episode-{row.seed}.png", log, row)
        return row

    def take_timings(self, timings: dict[str, Timing]) -> None:
        """Take hil's figures of the whole run."""
        keys = {"observation_to_command": "latency_ms", "command_interval": "command_interval_ms"}
        for name, key in keys.items():
            t = timings[name]
            self.timings[key] = {
                "p50": t.p50_ms,
                "p95": t.p95_ms,
                "p99": t.p99_ms,
                "max": t.max_ms,
                "n": t.n,
            }

    def save(self) -> None:
        """Write `summary.json`."""
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
            **self.timings,
            "policy_version": self.version,
            "settings": {k: str(v) for k, v in asdict(self._args).items()},
            "machine": machine(),
        }


def picture(path: Path, log: EpisodeLog, row: DemoEpisode) -> None:
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
