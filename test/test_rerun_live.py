"""`rewact visualise --live`: a robot that runs is heard, what does not fit is counted."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import free_port, run_command
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray
from test_bags import contract_of, recording

from rewact_ros.data.video import rerun_viewer
from rewact_ros.data.video.rerun_viewer import RerunViewer
from rewact_ros.msg import ControlStatus, EpisodeEvent, SupervisorStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.stack.rerun_live import RerunLive


class Written:
    """What a robot's view writes, by the name of the call."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, args))

    def of(self, name):
        return [args for call, args in self.calls if call == name]


def test_a_robot_in_a_namespace_is_heard(graph):
    out, ear, robot = Written(), Node("ear", namespace="left"), Node("robot", namespace="left")
    live = RerunLive(ear, contract_of(), out)
    messages = [(topic.strip("/"), message) for topic, _, message in recording(2)]
    messages += [
        ("commands", Float64MultiArray(data=[0.25, -0.5])),
        ("commands", Float64MultiArray(data=[1.0])),  # of one joint, where there are two
        ("front/image_raw", Image(height=2, width=2, encoding="rgb8", step=6, data=bytes(12))),
        *((names.CONTROL_STATUS, ControlStatus(mode=9, reason="\x1b[2J")) for _ in range(2)),
        (names.SUPERVISOR_STATUS, SupervisorStatus(alarms=["stalled"])),
        (names.EPISODE_EVENT, EpisodeEvent(event=200, task="wipe")),
    ]
    kinds = {topic: type(message) for topic, message in messages}
    senders = {topic: robot.create_publisher(kind, topic, 10) for topic, kind in kinds.items()}
    executor = SingleThreadedExecutor()
    executor.add_node(ear)
    executor.add_node(robot)

    def spin(until):
        end_s = time.monotonic() + 20.0
        while not until():
            assert time.monotonic() < end_s, out.calls
            executor.spin_once(timeout_sec=0.05)

    spin(lambda: all(each.get_subscription_count() for each in senders.values()))
    for k, (topic, message) in enumerate(messages):
        if topic == "front/image_raw":
            live._pictured_s.clear()  # each picture is looked at, as if time had passed
        senders[topic].publish(message)
        spin(lambda k=k: live.messages == k + 1)
    assert out.of("names") == [("joints", ("a", "b")), ("commands", ("a", "b"))]
    numbers = [(what, np.round(values, 3).tolist()) for _, what, values in out.of("numbers")]
    assert numbers == [
        ("joints", [0.0, 0.0]), ("joints", [0.025, 0.0]),
        ("joints", [-0.1, 0.1]), ("joints", [-0.075, 0.1]), ("commands", [0.25, -0.5]),
    ]  # fmt: skip
    assert [pictures["front"].shape for _, pictures in out.of("pictures")] == [(24, 32, 3)] * 2
    assert [(who, r.value, r.high) for _, who, r in out.of("progress")] == [
        ("predicted", 0.0, 1.0), ("predicted", 0.5, 1.0),
    ]  # fmt: skip
    assert [line for _, *line in out.of("event")] == [
        ["mode 9: \x1b[2J", "INFO"],
        ["alarms: stalled", "WARN"],
        ["episode: 200, task: wipe", "INFO"],
    ]  # fmt: skip
    assert live.refused == {"commands": 1, "front/image_raw": 1}
    times_s = [args[0] for name, args in out.calls if name != "names"]
    assert times_s == sorted(times_s) and 0 <= times_s[0] < times_s[-1] < 30
    executor.shutdown()
    for node in (ear, robot):
        node.destroy_node()


@pytest.mark.parametrize("more", [(), ("--rerun", "a.rrd", "--out", "b.mp4"),
                                  ("--rerun", "a.rrd", "--policy", "x")])  # fmt: skip
def test_what_live_needs_is_told(more, monkeypatch, capsys):
    assert run_command(monkeypatch, "visualise", "--live", *more) == 2
    assert "--live: expected --rerun with a viewer or a file" in capsys.readouterr().err


def test_a_viewer_goes_with_live_only(monkeypatch, tmp_path, capsys):
    pytest.importorskip("rerun")
    address = "rerun+http://127.0.0.1:9876/proxy"
    assert run_command(monkeypatch, "visualise", "--dataset", tmp_path, "--rerun", address) == 2
    assert "a viewer goes with --live" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:9876/proxy", "expected the address of a viewer"),
        ("rerun+http://127.0.0.1:9876", "expected the address of a viewer"),
        ("rerun+http://127.0.0.1:x/proxy", "Port could not be cast"),
        ("rerun+http://127.0.0.1:{}/proxy", "no viewer listens there"),
    ],
)
def test_an_address_without_a_viewer_is_named(address, said, monkeypatch):
    monkeypatch.setattr(rerun_viewer.RerunLog, "__init__", lambda self, *given, **more: None)
    with pytest.raises(ValueError, match=said):
        RerunViewer(address.format(free_port()), "robot", [])


def test_a_file_of_a_live_robot_is_whole_after_ctrl_c(graph, vx300s, tmp_path):
    experimental = pytest.importorskip("rerun.experimental")
    target = tmp_path / "live.rrd"
    command = [sys.executable, "-m", "rewact_ros.cli", "visualise", "--live", "--rerun", target]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    robot, part = Node("robot"), vx300s.action[0]
    sender = robot.create_publisher(Float64MultiArray, part.topic, 10)
    assert process.stdout is not None and "until Ctrl-C" in process.stdout.readline()
    end_s = time.monotonic() + 30.0
    while not sender.get_subscription_count():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    for _ in range(5):
        sender.publish(Float64MultiArray(data=[0.0] * len(part.joints)))
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    heard = int(said.split(" messages")[0])  # the first may come before it is found
    assert process.returncode == 0 and heard > 0
    rows = sum(
        chunk.num_rows
        for chunk in experimental.RrdReader(str(target)).stream()
        if str(chunk.entity_path) == "/commands"
    )
    assert rows == heard + 1  # and the names
    robot.destroy_node()
