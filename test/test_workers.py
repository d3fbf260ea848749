"""Workers of a pool do not outlive the process that they work for."""

import signal
import subprocess
import sys
import time

import pytest

POOL = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from rewact_ros.workers import begin_worker

def work(file):
    with open(file, "w") as out:
        out.write(str(os.getpid()))
    os.replace(file, file + ".pid")
    time.sleep(120)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, begin_worker, max_tasks_per_child=1) as pool:
        pool.submit(work, sys.argv[1]).result()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_when_its_parent_was_killed(tmp_path, how):
    script, file = tmp_path / "pool.py", tmp_path / "worker"
    script.write_text(POOL)
    parent = subprocess.Popen([sys.executable, str(script), str(file)])
    deadline_s = time.monotonic() + 60
    told = tmp_path / "worker.pid"
    while not told.exists():
        assert parent.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.05)
    worker = int(told.read_text())
    parent.send_signal(how)
    parent.wait()
    while is_running(worker):
        assert time.monotonic() < deadline_s, "the worker goes on for nobody"
        time.sleep(0.05)


def is_running(pid):
    """Whether a process is there, and is more than what is left of one."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
