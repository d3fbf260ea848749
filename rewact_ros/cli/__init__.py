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
    """Entry point: whatever goes wrong becomes a line or two and an exit code."""
    from rewact_ros.cli.faults import exit_code

    # Ended by `kill`, a command still stops the processes that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(exit_code(_run))


def _run() -> None:
    from rewact_ros.home import expand_home, provide_home

    provide_home()
    words = [expand_home(word) for word in sys.argv[1:]]
    if any("contract" in word for word in words):
        from rewact_ros.cli.contract_check import check_contract, check_named, plain_check

        if file := plain_check(words):
            sys.exit(check_contract(file))
        check_named(words)
    from rewact_ros.cli.app import app

    app(words, prog_name="rewact")
