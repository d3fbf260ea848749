"""`rewact …`: one file per command. Heavy imports happen inside the commands."""

import logging
import os
import signal
import sys

# Two OpenMP threads on two busy cores can be ten times slower than one; set before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# LeRobot reports at length that torchcodec lacks FFmpeg, then uses PyAV, which is what we want.
logging.getLogger("lerobot.utils.import_utils").setLevel(logging.ERROR)


def main() -> None:
    """Entry point: faults that the user can mend become one line and exit code 2."""
    from rewact_ros.cli.app import app

    # Ended by `kill`, a command still stops the processes that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except (ValueError, FileNotFoundError, FileExistsError, RuntimeError, ImportError) as error:
        if os.environ.get("REWACT_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
