"""A process that leaves the cores to others: those that move a robot come first."""

import contextlib
import os
from pathlib import Path


def give_way(niceness: int) -> None:
    """Add to this process's niceness, so that it has what others leave of the cores.

    Where the kernel groups processes by session, niceness counts within a session alone, and that
    of the group counts between them (sched(7), autogroup). The group is changed where this process
    leads a session of its own: of a shell's it would slow down the shell.
    """
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))
