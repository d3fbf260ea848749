"""Worker processes of a pool: they end with the process that started them."""

import multiprocessing
import os
import signal
import threading


def begin_worker() -> None:
    """To be called first in a spawned worker.

    Ctrl-C is left to the parent. A parent that was killed outright cannot tell a worker to stop,
    and one that is in the middle of an hour's work would go on for nobody.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
