"""Which processes are started again, and when all must end: one rule for both front ends."""

import signal

# Exit code of a process that refuses its configuration; Python's own for a wrong command line.
CONFIGURATION_FAULT = 2
RESPAWN_DELAY_S = 0.5
# A node that dies this often in this time is broken, not unlucky.
MAX_RESTARTS, RESTART_WINDOW_S = 5, 60.0


class Restarts:
    """Remembers when each process was started again."""

    def __init__(self) -> None:
        self._times_s: dict[str, list[float]] = {}

    def end(self, name: str, code: int, now_s: float, respawn: bool = True, last: str = "") -> str:
        """Why all must end now that a process has; empty: start it again.

        Args:
            name: of the process.
            code: its exit code; negative: the signal that ended it.
            now_s: of a clock that never goes back.
            respawn: whether it is a process to start again at all.
            last: its last error line, if one is known.
        """
        cause = last or _cause(code)
        if code == CONFIGURATION_FAULT or not respawn:
            return f"{name}: {cause}"
        recent = [t for t in self._times_s.get(name, []) if now_s - t < RESTART_WINDOW_S]
        if len(recent) >= MAX_RESTARTS:
            return f"{name} died {len(recent) + 1} times within a minute: {cause}"
        self._times_s[name] = [*recent, now_s]
        return ""


def _cause(code: int) -> str:
    if code == CONFIGURATION_FAULT:
        return f"refuses its configuration (exit code {code}); its own last line says why"
    return describe(code)


def describe(code: int) -> str:
    """An exit code in words."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
