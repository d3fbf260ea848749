"""What `rewact demo` prints: a line per task, one table of them, one of the timing."""

import math
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from rewact_ros.stack.demo_record import DemoRecord


def print_tables(record: DemoRecord) -> None:
    """Print the episodes and the timing of a whole run."""
    # A log file or pipe has no width of its own; 80 columns would cut the words.
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(_episode_table(record))
    console.print(_timing_table(record))


def _episode_table(record: DemoRecord) -> Table:
    table = Table(title=f"{len(record.rows)} tasks, policy {record.version}")
    for name in (
        "seed",
        "verdict",
        "true outcome",
        "right",
        "duration s",
        "peak reward",
        "detection delay s",
    ):
        table.add_column(name, justify="left" if name in ("verdict", "true outcome") else "right")
    for row in record.rows:
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
    n = len(record.rows)
    table.add_section()
    table.add_row(
        f"{n} tasks",
        f"{sum(r.verdict == 'success' for r in record.rows)} success",
        f"{sum(r.truth == 'success' for r in record.rows)} success",
        f"{sum(r.right for r in record.rows)}/{n}",
        f"{np.median([r.duration_s for r in record.rows]):.1f}",
        "",
        _median([r.detection_delay_s for r in record.rows]),
    )
    return table


def _timing_table(record: DemoRecord) -> Table:
    table = Table(title="timing, ms")
    for name in ("", "p50", "p95", "p99", "max", "n"):
        table.add_column(name, justify="left" if not name else "right")
    titles = {"latency_ms": "observation → command", "command_interval_ms": "command interval"}
    for key, title in titles.items():
        t = record.timings[key]
        table.add_row(title, *(f"{t[k]:.1f}" for k in ("p50", "p95", "p99", "max")), f"{t['n']}")
    return table


def _median(values: list[float]) -> str:
    known = [v for v in values if not math.isnan(v)]
    return f"{np.median(known):+.2f}" if known else "–"
