"""Who leaves the cores to others: a process in its own session, never a session of a shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

GIVE = "from rewact_ros.priority import give_way; give_way(7); import os; print(os.nice(0)); "
SHOW = "print(open('/proc/self/autogroup').read())"


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="a kernel without autogroup")
@pytest.mark.parametrize(("own_session", "of_group"), [(True, "nice 7"), (False, "nice 0")])
def test_a_process_lowers_its_own_session_and_no_other(own_session, of_group):
    outer = [sys.executable, "-c", GIVE + SHOW]
    if not own_session:  # a shell's child: the shell leads the session
        script = f"import subprocess, sys; subprocess.run({outer!r})"
        outer = [sys.executable, "-c", script]
    done = subprocess.run(outer, start_new_session=True, capture_output=True, text=True, check=True)
    niceness, group = done.stdout.split("\n", 1)
    assert int(niceness) == os.nice(0) + 7
    assert of_group in group
