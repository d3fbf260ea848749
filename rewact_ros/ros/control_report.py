"""What hil tells of itself: its status, its diagnosis and its log."""

import re
from typing import Any

from rewact_ros.control.modes import Event, Mode
from rewact_ros.control.path import CommandPath
from rewact_ros.control.timing import DurationHistogram
from rewact_ros.control.watch import Now
from rewact_ros.msg import ControlStatus, Timing
from rewact_ros.ros.diagnostics import ERROR, OK, WARN
from rewact_ros.ros.loop import ControlLoop


class ControlReport:
    """Reads a command path and its loop.

    Attributes:
        interval: between two commands.

    Args:
        logger: of the node.
    """

    def __init__(self, path: CommandPath, loop: ControlLoop, logger: Any) -> None:
        self.interval = DurationHistogram()
        self._path, self._loop, self._logger = path, loop, logger
        self._logged: tuple[object, ...] = ()
        self._unheeded = ""

    def log(self, now: Now) -> None:
        """Log a change of mode or of its reason: a fault as error, a watchdog's stop as warning.

        A deadman that is pressed in vain is a warning, once for each press.
        """
        modes = self._path.modes
        unheeded = self._path.unheeded(now)
        if unheeded and not self._unheeded:
            self._logger.warning(unheeded)
        self._unheeded = unheeded
        # Ages in a reason change all the time; only other words are news for the log.
        words = re.sub(r"\d+(\.\d+)?", "", modes.reason)
        news = (modes.mode, words, modes.resume_required, self._path.epoch)
        if news == self._logged:
            return
        self._logged = news
        line = f"{modes.mode.name}: {modes.reason}"
        if modes.cause is Event.FAULT:
            self._logger.error(line)
        elif modes.cause is Event.STOP:
            self._logger.warning(line)
        else:
            self._logger.info(line)

    def status(self) -> ControlStatus:
        """Message of the present state, without a stamp."""
        path, modes = self._path, self._path.modes
        return ControlStatus(
            mode=int(modes.mode),
            reason=modes.reason,
            remedy=modes.remedy,
            resume_required=modes.resume_required,
            epoch=path.epoch,
            active_source=path.source,
            commands=path.commands,
            clipped=path.clipped,
            violation=path.violation,
            rejected=path.rejected,
            late_ticks=self._loop.late_ticks + self._loop.skipped_ticks,
            timings=[_timing(name, histogram) for name, histogram in self._histograms()],
        )

    def diagnose(self, now: Now) -> tuple[bytes, str, dict[str, object]]:
        """Level, line and values for `/diagnostics`."""
        path, modes = self._path, self._path.modes
        unheeded = path.unheeded(now)
        warns = modes.resume_required or bool(unheeded)
        level = ERROR if modes.mode is Mode.FAULT else WARN if warns else OK
        values: dict[str, object] = {
            "mode": modes.mode.name,
            "remedy": modes.remedy,
            "commands": path.commands,
            "clipped": path.clipped,
            "rejected": path.rejected,
            "late_ticks": self._loop.late_ticks,
            "skipped_ticks": self._loop.skipped_ticks,
            "violation": path.violation,
            **{f"violations_{kind}": n for kind, n in path.violations.items()},
        }
        for name, histogram in self._histograms():
            summary = histogram.summary()
            values[f"{name}_p50_ms"] = f"{summary.p50_ms:.2f}"
            values[f"{name}_p95_ms"] = f"{summary.p95_ms:.2f}"
            values[f"{name}_p99_ms"] = f"{summary.p99_ms:.2f}"
        line = f"{modes.mode.name}: {modes.reason}"
        return level, f"{line}; {unheeded}" if unheeded else line, values

    def _histograms(self) -> tuple[tuple[str, DurationHistogram], ...]:
        return (
            ("command_interval", self.interval),
            ("observation_to_command", self._path.policy.observation_to_command),
            ("tick_lateness", self._loop.lateness),
        )


def _timing(name: str, histogram: DurationHistogram) -> Timing:
    summary = histogram.summary()
    return Timing(
        name=name,
        n=summary.n,
        p50_ms=summary.p50_ms,
        p95_ms=summary.p95_ms,
        p99_ms=summary.p99_ms,
        max_ms=summary.max_ms,
    )
