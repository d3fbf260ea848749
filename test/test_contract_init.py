"""`rewact contract init`: what is there becomes a contract; guesses say so, conflicts are named."""

import json
import sys

import pytest
from conftest import G1, ROOT, SHARED_DATA

from rewact_ros.cli.contract_init import find, write
from rewact_ros.contract import ContractError, load_contract
from rewact_ros.contract.found import (
    CameraStream,
    CommandStream,
    Features,
    Found,
    JointStream,
    camera_name,
)
from rewact_ros.contract.urdf import read_urdf
from rewact_ros.data.contract_facts import read_checkpoint, read_dataset
from rewact_ros.data.dataset.info import DatasetError

sys.path.append(str(ROOT / "benchmarks"))
SO101 = ROOT / "config" / "robots" / "so101.yaml"
URDF = """<robot name="arm">
  <joint name="a" type="revolute"><limit lower="-1.5" upper="1.25" velocity="2" effort="1"/></joint>
  <joint name="b" type="continuous"><limit velocity="3" effort="1"/></joint>
  <joint name="g" type="prismatic"><limit lower="0" upper="0.04" velocity="0.1" effort="1"/></joint>
  <joint name="g2" type="prismatic"><limit lower="0" upper="0.04"/><mimic joint="g"/></joint>
  <joint name="f" type="fixed"/>
</robot>"""
FLOATS = "std_msgs/msg/Float64MultiArray"


def robot(**changes) -> Found:
    found = read_urdf(URDF, "arm.urdf")
    found.joints.append(JointStream("joint_states", ("g2", "b", "g", "a"), 100.0, "graph: joints"))
    found.cameras.append(
        CameraStream(
            "cam/color/image_raw", "sensor_msgs/msg/Image", (48, 64, 3), 29.6, "graph: cam"
        )
    )
    found.commands.append(
        CommandStream("arm/commands", FLOATS, ("a", "b", "g"), "position", "graph")
    )
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_a_graph_and_a_model_give_the_whole_contract(tmp_path):
    guesses = write(robot(), tmp_path / "robot.yaml").guesses
    contract = load_contract(tmp_path / "robot.yaml")
    assert contract.robot == "arm" and contract.rate_hz == 30
    assert contract.state_names == contract.action_names == ("a", "b", "g")  # g2 follows g
    part = contract.action[0]
    assert part.topic == "arm/commands" and part.units == ("rad", "rad", "m")
    assert part.position[0] == (-1.5, 1.25) and part.position[2] == (0, 0.04)
    assert part.position[1] == pytest.approx((-6.28319, 6.28319))  # turns without end: a guess
    assert part.velocity == (2, 3, 0.1) and part.command_rate_hz == 100
    assert contract.state[0].max_age_s == 0.05 and contract.cameras[0].max_age_s == 0.101
    text = (tmp_path / "robot.yaml").read_text()
    assert text.count("guess:") - 1 == len(guesses) and "b" in guesses and "topic" not in guesses
    with pytest.raises(ContractError, match="exists; name a file"):
        write(robot(), tmp_path / "robot.yaml")


def test_a_data_set_gives_order_names_and_rate(tmp_path):
    features = Features(20.0, ("b", "a", "g"), ("b", "a", "g"), {"top": (48, 64, 3)}, "data set")
    write(robot(features=[features], commands=[]), tmp_path / "robot.yaml")
    contract = load_contract(tmp_path / "robot.yaml")
    assert contract.state_names == ("b", "a", "g") and contract.rate_hz == 20
    assert contract.cameras[0].name == "top" and contract.cameras[0].topic == "cam/color/image_raw"
    text = (tmp_path / "robot.yaml").read_text()
    assert "# guess: nothing tells how b, a, g are commanded" in text


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (Features(20.0, ("a", "elbow"), ("a",), {}, "set"), "has joint elbow, but graph: joints"),
        (
            Features(20.0, ("a",), ("a",), {"top": (96, 96, 3)}, "set"),
            r"images.top: set has \[96, 96, 3\], but cam/color/image_raw sends \[48, 64, 3\]",
        ),
    ],
)
def test_where_sources_disagree_both_are_named_and_nothing_is_written(tmp_path, features, words):
    with pytest.raises(ContractError, match=words):
        write(robot(features=[features]), tmp_path / "robot.yaml")
    assert not (tmp_path / "robot.yaml").exists()


def test_two_rates_and_two_joint_lists_are_a_conflict(tmp_path):
    slow = Features(20.0, ("a",), ("a",), {}, "one")
    quick = Features(30.0, ("a",), ("a",), {}, "two")
    with pytest.raises(ContractError, match="rate_hz: one has 20.0, two has 30.0"):
        write(robot(features=[slow, quick]), tmp_path / "x.yaml")
    twice = [*robot().joints, JointStream("joint_states", ("a",), 50.0, "bag")]
    with pytest.raises(ContractError, match="graph: joints has 4 joints, bag has 1"):
        write(robot(joints=twice), tmp_path / "x.yaml")


def test_nothing_of_a_joint_is_told_so_and_a_robot_may_have_no_camera(tmp_path):
    with pytest.raises(ContractError, match="nothing found tells of a joint"):
        write(robot(joints=[], commands=[]), tmp_path / "x.yaml")
    write(robot(cameras=[]), tmp_path / "x.yaml")
    assert load_contract(tmp_path / "x.yaml").cameras == ()
    with pytest.raises(ContractError, match="expected a source: --graph, --urdf"):
        find(False, True, None, None, None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><robot>&x;</robot>',
            "document type",
        ),
        ('<!DOCTYPE r [<!ENTITY a "aaa"><!ENTITY b "&a;&a;">]><robot>&b;</robot>', "document type"),
        ("<robot>" + "<a>" * 200 + "</a>" * 200 + "</robot>", "levels inside one another"),
        ("<robot", "not XML"),
        ("<sdf/>", "expected <robot>"),
        (
            "<robot>" + '<joint name="a" type="revolute"/>' * 2001 + "</robot>",
            "at most 2000 joints",
        ),
    ],
)
def test_a_hostile_model_is_refused(text, words):
    with pytest.raises(ContractError, match=words):
        read_urdf(text, "x.urdf")


def test_limits_that_are_none_are_noted_and_not_used(tmp_path):
    found = read_urdf(URDF.replace('lower="-1.5"', 'lower="nan"').replace('2"', 'inf"'), "x.urdf")
    assert found.model["a"].low is None and found.model["a"].velocity is None
    assert any("lower is 'nan'" in note for note in found.notes)
    turned = read_urdf(URDF.replace('lower="-1.5"', 'lower="9"'), "x.urdf")
    assert turned.model["a"].high is None and "leave no way" in turned.notes[0]


def test_names_of_a_stranger_stay_names(tmp_path):
    nasty = "a: &x\n- !!python/name:os.system"
    found = robot(robot="yes", commands=[])
    found.joints = [JointStream("joint_states", ("a", "on", "10", "é #x"), 100.0, f"graph {nasty}")]
    found.cameras[0] = CameraStream("cam", "sensor_msgs/msg/Image", (48, 64, 3), 30.0, nasty)
    write(found, tmp_path / "robot.yaml")
    contract = load_contract(tmp_path / "robot.yaml")
    assert contract.robot == "yes" and contract.state_names == ("a", "on", "10", "é #x")


def test_a_huge_or_deep_info_and_an_old_data_set_are_refused(tmp_path):
    (tmp_path / "meta").mkdir()
    info = tmp_path / "meta" / "info.json"
    info.write_text("[" * 100_000)
    with pytest.raises(DatasetError):
        read_dataset(tmp_path)
    info.write_text(json.dumps({"codebase_version": "v2.1", "features": {}}))
    with pytest.raises(DatasetError, match="convert_dataset_v21_to_v30"):
        read_dataset(tmp_path)


def test_a_checkpoint_tells_its_cameras(tmp_path, tiny_policy):
    found = read_checkpoint(tiny_policy)
    assert found.features[0].cameras == {"front": (96, 96, 3), "wrist": (96, 96, 3)}
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ContractError, match="expected a checkpoint"):
        read_checkpoint(tmp_path)


def test_cameras_are_named_after_what_their_topics_say():
    names: list[str] = []
    for topic in (
        "/camera/color/image_raw",
        "/wrist/image_raw",
        "/wrist/image",
        "/left/cam/compressed",
    ):
        names.append(camera_name(topic, names))
    assert names == ["camera", "wrist", "wrist_2", "left_cam"]


@pytest.mark.skipif(not (SHARED_DATA / "g1_bottle").exists(), reason="real data is not here")
def test_a_real_data_set_gives_the_joints_of_the_shipped_contract(tmp_path):
    write(find(False, True, None, SHARED_DATA / "g1_bottle", None, None), tmp_path / "g1.yaml")
    made, shipped = load_contract(tmp_path / "g1.yaml"), load_contract(G1)
    assert made.state_names == shipped.state_names and made.action_names == shipped.action_names
    assert [c.key for c in made.cameras] == [c.key for c in shipped.cameras]


def test_a_running_driver_tells_its_controllers_joints_and_cameras(graph, tmp_path):
    import rclpy
    from robot_drivers import FakeDriver

    from rewact_ros.ros.graph_facts import open_graph

    driver = FakeDriver("so101", rclpy.get_default_context())
    try:
        found = open_graph("/", 1.0, controllers=True)
    finally:
        driver.close()
    write(found, tmp_path / "so101.yaml")
    made, shipped = load_contract(tmp_path / "so101.yaml"), load_contract(SO101)
    assert {p.topic: p.joints for p in made.action} == {p.topic: p.joints for p in shipped.action}
    assert {p.topic: p.type for p in made.action} == {p.topic: p.type for p in shipped.action}
    limits = {
        joint: limit
        for part in made.action
        for joint, limit in zip(part.joints, part.position, strict=True)
    }
    assert limits["gripper"] == pytest.approx((-0.174533, 1.74533))  # of /robot_description
    assert {c.topic: c.shape for c in made.cameras} == {c.topic: c.shape for c in shipped.cameras}
    assert made.state[0].topic == "follower/joint_states"
