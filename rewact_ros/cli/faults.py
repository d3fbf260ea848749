"""What a command that fails says: a line or two and an exit code; a traceback only when asked."""

import os
import sys
import traceback
from collections.abc import Callable

from rewact_ros.text import reason

UNEXPECTED, MENDABLE, INTERRUPTED = 1, 2, 130
TRACEBACK = "REWACT_TRACEBACK"
_LONGEST = 400  # of a foreign text
# Faults of a program rather than of what it was given, wherever they come from.
_SLIPS = (NotImplementedError, RecursionError)
_TOLD = (ValueError, RuntimeError, OSError, ImportError)


def exit_code(command: Callable[[], object]) -> int:
    """Run a command; print what went wrong and return the exit code.

    0: well; 1: a fault that nobody foresaw; 2: one that the user can mend; 130: interrupted.
    """
    try:
        command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        text, code = _told(error)
        print(f"error: {_printable(text)}", file=sys.stderr)
        return code
    return 0


def _told(error: Exception) -> tuple[str, int]:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"out of memory ({_first_line(error)}); take less at a time (batch size, image size, "
            "workers, episodes)",
            MENDABLE,
        )
    if isinstance(error, OSError) and error.errno is not None:
        return reason(error), MENDABLE
    if isinstance(error, ModuleNotFoundError) and error.name and not _is_ours(error):
        return f"{error}; install it here, or run this by the project's environment", MENDABLE
    if isinstance(error, _TOLD) and not isinstance(error, _SLIPS) and _is_ours(error):
        return str(error) or type(error).__name__, MENDABLE
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__}: {_first_line(error)}\n"
        f"  not foreseen, in {place.filename}:{place.lineno}; {TRACEBACK}=1 shows the way there",
        UNEXPECTED,
    )


def _is_ours(error: Exception) -> bool:
    """Whether the text was written for our users: the class or the line that raised it is ours."""
    if type(error).__module__.split(".")[0] == "rewact_ros":
        return True
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    name = "" if frame is None else frame.tb_frame.f_globals.get("__name__", "")
    return name.split(".")[0] in ("rewact_ros", "benchmarks", "__main__")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:_LONGEST] if lines else "no further words"


def _printable(text: str) -> str:
    """Without what would steer a terminal: names come from files and messages of others."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
