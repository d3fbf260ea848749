"""The node `metrics` in a real graph: it is scraped, and nobody ties it up."""

import contextlib
import http.client
import socket
import threading
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from exposition_parser import parse
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from rewact_ros import metrics_server
from rewact_ros.metrics_server import MOST_CONNECTIONS, MetricsServer
from rewact_ros.msg import ControlStatus, SupervisorStatus
from rewact_ros.nodes.metrics import MetricsNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.params import MetricsParams
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import processes


def scrape(port, path="/metrics", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode()
    finally:
        connection.close()


def wait_for(condition, timeout_s=20.0):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it never came to that"
        time.sleep(0.02)


@pytest.fixture
def server():
    made = MetricsServer("127.0.0.1", 0, lambda: "rewact_up 1\n")
    yield made
    made.close()


def test_a_graph_is_scraped(graph):
    node = MetricsNode(parameter_overrides=[Parameter("port", value=0)], namespace="left")
    robot = Node("robot", namespace="left")
    control = robot.create_publisher(ControlStatus, names.CONTROL_STATUS, names.LATCHED)
    supervisor = robot.create_publisher(SupervisorStatus, names.SUPERVISOR_STATUS, names.LATCHED)
    driver = robot.create_publisher(DiagnosticArray, names.DIAGNOSTICS, 10)
    hostile = 'cam"} 1\nrewact_mode{mode="POLICY'
    told = DiagnosticStatus(level=b"\1", name=hostile, values=[KeyValue(key='k\\"', value="3.5")])
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(robot)
    wanted = {"rewact_mode", "rewact_progress", "rewact_diagnostic_value"}
    found, end_s = {}, time.monotonic() + 30
    try:
        while not wanted <= {name for name, _ in found}:
            assert time.monotonic() < end_s, f"only {sorted({name for name, _ in found})}"
            control.publish(ControlStatus(mode=ControlStatus.HOLD, reason="\x1b[2J"))
            supervisor.publish(SupervisorStatus(progress=0.25, phase="running"))
            driver.publish(DiagnosticArray(status=[told]))
            executor.spin_once(timeout_sec=0.02)
            status, kind, body = scrape(node.server.port)
            assert status == 200 and kind.startswith("text/plain; version=0.0.4")
            found = parse(body)
        assert found["rewact_mode", (("mode", "HOLD"),)] == 1
        assert found["rewact_mode", (("mode", "POLICY"),)] == 0
        assert found["rewact_progress", ()] == 0.25
        labels = [dict(labels) for name, labels in found if name == "rewact_diagnostic_value"]
        # A line end is shown as an escape, as it is in every terminal of ours.
        assert {"node": hostile.replace("\n", "\\n"), "key": 'k\\"'} in labels
    finally:
        executor.shutdown()
        node.close()
        node.destroy_node()
        robot.destroy_node()


def test_only_get_of_metrics_is_answered(server):
    assert scrape(server.port)[::2] == (200, "rewact_up 1\n")
    assert scrape(server.port, "/metrics?x=1")[0] == 200
    for path in ("/", "/metrics/", "/metricsx", "/../metrics", "/%6detrics"):
        assert scrape(server.port, path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"):
        assert scrape(server.port, method=method)[0] == 501
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(b"GET /metrics" + b"x" * 100_000)
        with contextlib.suppress(ConnectionResetError):  # it reads no more than a line may have
            assert b" 414 " in raw.recv(200)
    assert scrape(server.port)[0] == 200


def test_slow_clients_are_cut_off_and_never_keep_a_scraper_out(server, monkeypatch):
    monkeypatch.setattr(metrics_server, "DEADLINE_S", 0.5)
    before = threading.active_count()
    slow = [
        socket.create_connection(("127.0.0.1", server.port), timeout=10)
        for _ in range(3 * MOST_CONNECTIONS)
    ]
    try:
        for each in slow:
            with contextlib.suppress(OSError):  # it had to make room already
                each.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert scrape(server.port)[0] == 200  # while they hang
        assert threading.active_count() <= before + MOST_CONNECTIONS + 1
        # One that goes on sending is cut off, too: the deadline is of the whole request.
        with contextlib.suppress(OSError):
            for _ in range(1000):
                slow[-1].sendall(b"x")
                time.sleep(0.01)
            pytest.fail("a client that trickled was let be")
        wait_for(lambda: not server._opened_s)
        wait_for(lambda: threading.active_count() <= before)
        assert server.cut_off >= 2 * MOST_CONNECTIONS
        assert scrape(server.port)[0] == 200
    finally:
        for each in slow:
            each.close()


def test_a_client_that_does_not_read_its_answer_is_cut_off(monkeypatch):
    monkeypatch.setattr(metrics_server, "DEADLINE_S", 0.5)
    server = MetricsServer("127.0.0.1", 0, lambda: "x" * 50_000_000)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as deaf:
            deaf.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            wait_for(lambda: server.cut_off == 1)
    finally:
        server.close()


def test_a_text_that_cannot_be_made_is_no_answer_and_no_end():
    def fail():
        raise RuntimeError("a slip of ours")

    server = MetricsServer("127.0.0.1", 0, fail)
    try:
        for _ in range(2):
            with pytest.raises(http.client.RemoteDisconnected):
                scrape(server.port)
        assert scrape(server.port, "/")[0] == 404
    finally:
        server.close()


def test_a_port_that_is_taken_is_a_configuration_fault(graph, server):
    taken = [Parameter("port", value=server.port)]
    with pytest.raises(ValueError, match=f"^metrics: 127.0.0.1:{server.port}: .*in use; give host"):
        MetricsNode(parameter_overrides=taken)


def test_it_starts_only_when_asked_for_and_listens_to_this_machine_alone():
    assert MetricsParams().host == "127.0.0.1"
    assert "metrics" not in {process.name for process in processes(BringUp())}
    (asked,) = [p for p in processes(BringUp(metrics=True)) if p.name == "metrics"]
    assert not asked.essential and asked.niceness > 0 and asked.respawn
    assert not asked.heavy  # a stock ROS installation runs it
