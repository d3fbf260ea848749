"""The shipped robots: contract against model, and hil against a driver that speaks their topics."""

import sys
import threading
import time

import numpy as np
import pytest
import rclpy
from conftest import ROOT
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from rewact_ros.contract import load_contract
from rewact_ros.contract.urdf import read_urdf_file
from rewact_ros.nodes.hil import HilNode
from rewact_ros.ros.commands import command_decoder, command_type

sys.path.append(str(ROOT / "benchmarks"))

from robot_drivers import DRIVERS, MODELS, FakeDriver

CONFIG = ROOT / "config" / "robots"
NAMES = sorted(DRIVERS)


@pytest.mark.parametrize("name", NAMES)
def test_joints_and_limits_are_those_of_the_model(name):
    contract, model = (
        load_contract(CONFIG / f"{name}.yaml"),
        read_urdf_file(MODELS / f"{name}.urdf"),
    )
    for part in contract.action:
        columns = zip(part.joints, part.units, part.position, part.velocity, strict=True)
        for joint, unit, (low, high), velocity in columns:
            known = model.model[joint]
            assert unit == known.unit and not known.mimic
            if known.low is not None:
                assert (low, high) == pytest.approx((known.low, known.high), abs=1e-4), joint
            if known.velocity is not None:
                assert velocity <= known.velocity + 1e-9, joint
    assert set(contract.action_names) <= set(contract.state_names) <= set(model.model)


@pytest.mark.parametrize("name", NAMES)
def test_every_robot_has_a_page_with_its_launch_line_and_sources(name):
    page = (ROOT / "docs" / "robots" / f"{name}.md").read_text()
    first = (CONFIG / f"{name}.yaml").read_text()
    launch = next(line for line in first.splitlines() if line.startswith("# Driver: "))
    assert launch.removeprefix("# Driver: ") in page and "https://" in first
    assert "gripper_position_controller" not in first or "as an action" in page


@pytest.mark.real_time
@pytest.mark.parametrize("name", NAMES)
def test_hil_arms_on_the_drivers_joints_and_commands_its_topics(graph, name):
    context = rclpy.get_default_context()
    contract = load_contract(CONFIG / f"{name}.yaml")
    driver = FakeDriver(name, context, cameras=False)
    hil = HilNode(parameter_overrides=[Parameter("contract", value=str(CONFIG / f"{name}.yaml"))])
    stop = threading.Event()
    thread = threading.Thread(target=hil.loop.run, args=(stop.is_set,))
    thread.start()
    client_node = Node("person", context=context)
    try:
        client = client_node.create_client(Trigger, "hil/arm")
        end_s, answer = time.monotonic() + 30, None
        while time.monotonic() < end_s and not (answer and answer.success):
            if client.service_is_ready():
                future = client.call_async(Trigger.Request())
                rclpy.spin_until_future_complete(client_node, future, timeout_sec=5)
                answer = future.result()
            else:
                rclpy.spin_once(client_node, timeout_sec=0.05)
        assert answer and answer.success, answer
        wanted = {part.topic for part in contract.action}
        while {topic for topic, _ in driver.received} != wanted:
            assert time.monotonic() < end_s, f"commands on {wanted} only of {driver.received[:3]}"
            time.sleep(0.02)
        for part in contract.action:
            msg = next(msg for topic, msg in driver.received if topic == part.topic)
            assert type(msg) is command_type(part)
            told = {c["topic"]: c for c in driver.about["controllers"]}[part.topic]
            assert list(part.joints) == told["joints"]
            at_rest = [driver.pose[joint] for joint in part.joints]
            np.testing.assert_allclose(command_decoder(part)(msg), at_rest, atol=1e-6)
    finally:
        stop.set()
        thread.join(10)
        hil.destroy_node()
        client_node.destroy_node()
        driver.close()
