"""`rewact arm`, `task`, `status` and their like, before a robot that answers as hil does."""

import io
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import run_command
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from fake_robot import FakeRobot

from rewact_ros.msg import ControlStatus, SupervisorStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.streams import Arrivals, stream_state, stream_values
from rewact_ros.stack.domain import kept_environment, own_domain
from rewact_ros.stack.live_status import LASTS_S, StreamNews
from rewact_ros.stack.node_thread import NodeThread
from rewact_ros.supervision.verdict import Outcome
from rewact_ros.terminal import Panel


@pytest.fixture(scope="module")
def domain():
    with kept_environment("ROS_DOMAIN_ID"):
        os.environ.pop("ROS_DOMAIN_ID", None)
        lock = own_domain()
        yield os.environ["ROS_DOMAIN_ID"]
        lock.release()


class TellingRobot(FakeRobot):
    """One that also tells of its streams, and that says why it refuses a task."""

    def __init__(self, context):
        super().__init__(context)
        self._supervisor = self.create_publisher(
            SupervisorStatus, names.SUPERVISOR_STATUS, names.LATCHED
        )
        self._supervisor.publish(
            SupervisorStatus(phase="idle", text="idle; goal refused: no bound")
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, names.DIAGNOSTICS, names.LATCHED)
        self._diagnostics.publish(
            DiagnosticArray(status=[of("/robot", STREAMS), of("/left/robot", OTHERS)])
        )


def of(name, values):
    return DiagnosticStatus(
        name=name, values=[KeyValue(key=key, value=str(value)) for key, value in values.items()]
    )


def regular(hz, until_s=10.0):
    arrivals = Arrivals()
    for k in range(int(3 * hz) + 1):
        arrivals.add(until_s - 3.0 + k / hz)
    return arrivals


STREAMS = stream_values(
    [
        stream_state("front/image_raw", regular(12.0), 10.05, 20.0, 0.25),
        stream_state("joint_states", regular(50.0), 10.01, 20.0, 0.1),
    ]
)
OTHERS = stream_values([stream_state("rear/image_raw", regular(20.0), 10.0, 20.0, 0.25)])


@pytest.fixture
def robot(domain):
    thread = NodeThread(TellingRobot)
    thread.start()
    yield thread.node
    thread.close()


def run(capsys, monkeypatch, *words):
    """Exit code, standard output and error of `rewact WORDS` in this process."""
    code = run_command(monkeypatch, *words)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def rewact(capsys, monkeypatch):
    return lambda *words: run(capsys, monkeypatch, *words)


def test_a_call_prints_the_nodes_words_and_is_0_only_if_it_said_yes(robot, rewact):
    assert rewact("arm") == (0, "as asked\n", "")
    assert robot.calls == ["arm"] and robot.mode == ControlStatus.HOLD
    assert rewact("take-over")[0] == rewact("release")[0] == rewact("resume")[0] == 0
    robot.serves = False
    code, out, err = rewact("disarm")
    assert (code, out, err) == (2, "", "error: hil/disarm refused: broken\n")
    assert robot.calls == ["arm", "take_over", "release", "resume", "disarm"]


@pytest.mark.parametrize(
    ("words", "sought"),
    [
        (("arm",), "service /left/hil/arm"),
        (("verdict", "failure"), "service /left/supervisor/failure"),
        (("task", "a task"), "action /left/rewact/execute_task"),
        (("status",), "topic /left/rewact/control_status"),
        (("swap", "--rollback"), "topic /left/rewact/policy_status"),
    ],
)
def test_where_nobody_answers_it_says_what_was_sought_where_and_how_to_start_it(
    domain, robot, rewact, words, sought
):
    limit = "1" if words[0] == "swap" else "0.3"
    code, out, err = rewact(*words, "--namespace", "left", "--timeout", limit)
    assert code == 2 and not out
    assert f"no {sought} in ROS domain {domain} within {limit} s" in err
    assert "`rewact up --namespace /left`" in err


@pytest.mark.real_time
def test_a_task_goes_there_and_back_with_its_result(robot, rewact):
    code, out, _ = rewact("task", "a task")
    assert code == 0 and out == "episode 0: running, progress 0.50\nSUCCESS: progress (1.5 s)\n"
    robot.verdict = Outcome.FAILURE
    code, out, _ = rewact("task", "a task")
    assert code == 1 and out.endswith("FAILURE: progress (1.5 s)\n")


@pytest.mark.real_time
def test_a_refused_task_is_told_in_the_supervisors_words(robot, rewact):
    robot.accepts = False
    code, out, err = rewact("task", "a task")
    assert code == 2 and not out and "task refused: idle; goal refused: no bound" in err


@pytest.mark.real_time
def test_ctrl_c_cancels_the_task(robot, rewact):
    robot.verdict = None
    # A shell that runs the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    robot.on_task = lambda: threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        code, out, _ = rewact("task", "a task")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and robot.cancelled == 1 and out.endswith("cancelled; the arm holds\n")


def test_the_status_is_one_table_of_this_robot_alone(robot, rewact):
    code, out, _ = rewact("status")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "mode        DISARMED: as told; mend"
    assert "policy      ready" in lines and "reward      0.75" in lines
    front, joints = (next(x for x in lines if x.startswith(t)) for t in ("front/", "joint_"))
    assert front.split()[1:5] == ["12.0", "20", "0.05", "0.25"]
    assert front.endswith("slow: 12.0 Hz, the contract has 20 Hz") and joints.endswith(" ok")
    assert "rear/image_raw" not in out
    now = json.loads(rewact("status", "--json")[1])
    assert now["mode"] == "DISARMED" and now["policy"]["ready"] and now["reward"] == 0.75
    assert [s["state"] for s in now["streams"]] == ["slow", "ok"]


def test_a_stream_is_judged_by_its_rate_its_age_and_what_it_holds():
    def state(arrivals, now_s, **more):
        return stream_state("front", arrivals, now_s, 20.0, 0.25, **more)

    assert state(Arrivals(), 10.0, absent="nobody publishes it").detail == "nobody publishes it"
    assert state(Arrivals(), 10.0).state == "silent"
    assert state(regular(20.0), 10.1).state == "ok"
    assert state(regular(17.0), 10.1).state == "slow"
    assert state(regular(20.0), 10.4).state == "old"
    assert state(regular(20.0), 10.0, unusable="too small").state == "unusable"
    again = regular(20.0)
    again.add(1.0)  # a clock that went back
    assert again.hz(1.0) is None and again.age_s(1.0) == 0.0


def test_a_change_of_a_stream_is_one_line_once_it_lasts():
    said = []
    news = StreamNews(said.append)
    slow = [stream_state("front", regular(12.0), 10.0, 20.0, 0.25)]
    well = [stream_state("front", regular(20.0), 10.0, 20.0, 0.25)]
    for now_s, streams in ((0.0, slow), (0.5, well), (1.0, well), (1.0 + LASTS_S, well)):
        news.take(streams, now_s)
    assert said == []
    for now_s in (5.0, 5.5, 5.0 + LASTS_S, 9.0, 10.0):
        news.take(slow, now_s)
    assert said == ["front: slow: 12.0 Hz, the contract has 20 Hz"]
    news.take(well, 11.0)
    news.take(well, 11.0 + LASTS_S)
    assert said[1:] == ["front: ok"]


def test_a_panel_stays_below_what_is_printed_and_takes_no_steering_text(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 5)))
    out = io.StringIO()
    panel = Panel(out)
    panel.show(["one", "two\x1b[2J"])
    assert out.getvalue() == "one\ntwo\\x1b[2J\n"
    out.truncate(out.seek(0))
    panel.print("a log line")
    assert out.getvalue() == "\x1b[2A\r\x1b[Ja log line\none\ntwo\\x1b[2J\n"
    out.truncate(out.seek(0))
    panel.show(["x" * 30, "b", "c", "d"])  # more, and longer, than the terminal has room for
    drawn = out.getvalue().removeprefix("\x1b[2A\r\x1b[J").splitlines()
    assert [len(line) for line in drawn] == [19, 1, 1]
    out.truncate(out.seek(0))
    panel.show([])
    assert out.getvalue() == "\x1b[3A\r\x1b[J"


def test_a_command_to_a_robot_loads_neither_numpy_nor_torch():
    heavy = "('numpy', 'torch', 'lerobot', 'cv2', 'mujoco')"
    code = (
        "import sys, rewact_ros.cli.app, rewact_ros.cli.robot, rewact_ros.stack.robot_status\n"
        f"assert not [m for m in {heavy} if m in sys.modules]\n"
        "import rewact_ros.ros.swap_client\n"
        "assert not {'torch', 'lerobot'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
