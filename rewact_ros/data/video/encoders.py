"""What video encoders do to the process that runs them, taken back: they print, and they hurry."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import av

_REALTIME = (os.SCHED_FIFO, os.SCHED_RR)


def quiet_encoders() -> None:
    """Let encoders print errors only; call it before the first one is made in a process.

    x264 and x265 speak through libav, SVT-AV1 does not: it reads its level from the environment.
    """
    av.logging.set_libav_level(av.logging.ERROR)
    os.environ.setdefault("SVT_LOG", "1")


@contextmanager
def keep_priority() -> Iterator[None]:
    """Put back to SCHED_OTHER the threads of this process that become realtime within the block.

    SVT-AV1, run as root as in most containers, makes the thread that opens it and forty of its own
    SCHED_FIFO 99: before every control loop of the machine, for as long as the process lives, and
    whatever it starts inherits that.
    """
    before = _realtime_threads()
    try:
        yield
    finally:
        for thread in _realtime_threads() - before:
            with suppress(ProcessLookupError, PermissionError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _realtime_threads() -> set[int]:
    found = set()
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError):
            if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK in _REALTIME:
                found.add(thread)
    return found
