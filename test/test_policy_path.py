"""The policy node's way from image to chunk: what starts it, what it says of itself, swaps."""

import importlib.util
import os
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from conftest import VX300S, write_policy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from test_policy_node import Feeder

from rewact_ros.policy import export
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.updates import Update
from rewact_ros.ros.convert import to_ns, to_stamp
from rewact_ros.ros.swap_client import update_for
from rewact_ros.stack.bringup import PROFILE, BringUp, processes

HAS_RUNTIME = any(importlib.util.find_spec(name) for name in ("onnxruntime", "openvino"))


class Stack:
    """A policy node and its feeder, each under the same namespace of its own."""

    def __init__(self, contract, namespace, policy, **parameters):
        from rewact_ros.nodes.policy import PolicyNode

        given = {"contract": str(VX300S), "policy": str(policy), **parameters}
        self.node = PolicyNode(
            namespace=namespace,
            parameter_overrides=[Parameter(key, value=value) for key, value in given.items()],
        )
        self.feeder = Feeder(contract, namespace)
        self.diagnostics = {}
        self.feeder.create_subscription(DiagnosticArray, "/diagnostics", self.keep, 10)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.feeder)

    def keep(self, msg):
        self.diagnostics |= {
            status.name: (status.message, {v.key: v.value for v in status.values})
            for status in msg.status
        }

    def said(self):
        return self.diagnostics.get(self.node.get_fully_qualified_name(), ("", {}))

    def turn(self, condition, feed=None, timeout_s=30.0):
        deadline_s, next_s = time.monotonic() + timeout_s, 0.0
        while not condition():
            assert time.monotonic() < deadline_s, (self.feeder.status, self.said())
            if feed is not None and time.monotonic() >= next_s:
                feed()
                next_s = time.monotonic() + 0.05
            self.executor.spin_once(timeout_sec=0.01)

    def close(self):
        self.node.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.feeder.destroy_node()


@pytest.fixture
def start(graph, vx300s):
    """Function: start a policy node; all are destroyed afterwards."""
    stacks = []

    def start(namespace, policy, **parameters):
        stacks.append(Stack(vx300s, namespace, policy, **parameters))
        return stacks[-1]

    yield start
    for stack in stacks:
        stack.close()


def test_a_chunk_begins_with_a_reference_image_and_none_gives_two(start, tiny_policy):
    stack = start("path", tiny_policy)
    feeder = stack.feeder
    images, with_front = feeder.images, set()

    def feed():
        feeder.feed()
        if "front" in feeder.images:
            with_front.add(to_ns(feeder.images["front"].header.stamp))

    stack.turn(lambda: len(feeder.chunks) > 2, feed)
    feeder.images = {"wrist": images["wrist"]}
    heard = stack.node._observations.received
    wrists = heard["observation.images.wrist"]
    stack.turn(lambda: heard["observation.images.wrist"] > wrists + 4, feed)
    feeder.images = images
    count = len(feeder.chunks)
    stack.turn(lambda: len(feeder.chunks) > count + 2, feed)
    stamps = [to_ns(chunk.header.stamp) for chunk in feeder.chunks]
    assert len(set(stamps)) == len(stamps) and set(stamps) <= with_front


def test_a_chunk_says_how_long_it_waited_and_its_age_and_diagnostics_sum_them_up(
    start, tiny_policy
):
    stack = start("times", tiny_policy)
    feeder = stack.feeder
    images = "received observation.images.front"

    def summed_up():  # at 1 Hz: the first may be of less
        text, values = stack.said()
        return len(feeder.chunks) > 5 and text == "inferring" and int(values[images]) > 5

    stack.turn(summed_up, feeder.feed)
    for chunk in feeder.chunks:
        assert chunk.queue_time >= 0.0 and chunk.inference_time > 0.0
        assert chunk.queue_time + chunk.inference_time <= chunk.latency < 10.0
    values = stack.said()[1]
    for name in ("inference", "queue", "observation_to_chunk", "stamp_to_chunk"):
        p50, p99 = (float(values[f"{name}_{p}_ms"]) for p in ("p50", "p99"))
        assert 0.0 <= p50 <= p99


def test_a_stamp_ahead_of_the_clock_gives_no_latency_and_is_told(start, tiny_policy):
    stack = start("ahead", tiny_policy)
    feeder, now = stack.feeder, stack.feeder.stamp
    feeder.stamp = lambda: to_stamp(to_ns(now()) + 200_000_000)
    stack.turn(lambda: feeder.chunks and "image stamps are" in stack.said()[0], feeder.feed)
    assert np.isnan(feeder.chunks[-1].latency)
    assert int(stack.said()[1]["stamps_of_another_clock"]) > 0


@pytest.mark.timeout(400)  # a process of its own, which makes way for all others
@pytest.mark.skipif(not HAS_RUNTIME, reason="no runtime for exports")
def test_a_swap_with_an_exported_engine_exports_in_another_process(
    start, vx300s, tmp_path, monkeypatch
):
    first = write_policy(vx300s, tmp_path / "first")
    other = write_policy(vx300s, tmp_path / "other", dim_feedforward=32)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stack = start("swap", first, engine="auto", policy_dir=str(tmp_path))
    feeder, exporters = stack.feeder, []
    to_onnx = export.to_onnx
    monkeypatch.setattr(export, "to_onnx", lambda n: (exporters.append(os.getpid()), to_onnx(n))[1])
    stack.turn(lambda: feeder.status is not None and feeder.status.ready, feeder.feed)
    update: Update = update_for(other, time.time_ns())
    stack.node._swap._preparation.request(update)
    stack.turn(lambda: feeder.status.policy_version == update.version, feeder.feed, 300.0)
    stack.turn(lambda: feeder.status.ready, feeder.feed)
    assert not exporters and export.export_file(load_policy(other, "cpu").sha256).is_file()


def test_every_process_but_hil_has_room_for_large_images(monkeypatch, tmp_path):
    monkeypatch.delenv(PROFILE, raising=False)
    (tmp_path / "model.safetensors").touch()
    nodes = processes(BringUp(policy=str(tmp_path), sim=True, bags_dir=str(tmp_path)))
    for process in nodes:
        tree = ElementTree.parse(process.environment[PROFILE])
        sizes = [int(e.text) for e in tree.iter() if e.tag.endswith("segment_size")]
        if process.name == "hil":
            assert not sizes
        else:
            assert min(sizes) > 8 * 2 * 640 * 480 * 3, process.name
    monkeypatch.setenv(PROFILE, "mine.xml")
    assert all(PROFILE not in process.environment for process in processes(BringUp()))
