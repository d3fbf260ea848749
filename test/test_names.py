"""Names are checked by ROS's rules when a contract is loaded, not when a node dies of them."""

import pytest
import rclpy
from conftest import G1, VX300S
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.exceptions import InvalidNamespaceException, InvalidTopicNameException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.validate_full_topic_name import validate_full_topic_name
from rclpy.validate_namespace import validate_namespace
from rclpy.validate_topic_name import validate_topic_name

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, load_contract, parse_contract
from rewact_ros.contract.names import (
    MAX_NAME,
    check_feature,
    check_namespace,
    check_text_name,
    check_topic,
    check_topics,
    resolve,
)
from rewact_ros.nodes.hil import HilNode
from rewact_ros.nodes.policy import ConfigurationError, PolicyNode
from rewact_ros.nodes.recorder import RecorderNode
from rewact_ros.nodes.reward_model import RewardModelNode
from rewact_ros.nodes.scripted_human import ScriptedHumanNode
from rewact_ros.nodes.sim import SimNode
from rewact_ros.nodes.supervisor import SupervisorNode
from rewact_ros.nodes.teleop import TeleopNode
from rewact_ros.nodes.transitions import TransitionsNode

NAMES = st.text("ab1_/-é .", max_size=8) | st.integers(240, 250).map("a".__mul__)


@settings(deadline=None)
@given(NAMES, NAMES)
def test_names_are_refused_and_resolved_as_ros_does(name, namespace):
    try:
        validate_topic_name(name)
        expanded = expand_topic_name(name, "node", "/left")
        validate_full_topic_name(expand_topic_name(name, "node", "/"))
    except (ValueError, InvalidTopicNameException):
        with pytest.raises(ContractError, match=r"^arm\.topic: "):
            check_topic("arm.topic", name)
    else:
        assert resolve(check_topic("arm.topic", name), "/left") == expanded
        assert resolve(name) == expand_topic_name(name, "node", "/")
    full = f"/{namespace.removeprefix('/').removesuffix('/')}"
    try:
        validate_namespace(full)
    except InvalidNamespaceException:
        with pytest.raises(ContractError, match="^namespace: "):
            check_namespace("namespace", namespace)
    else:
        assert check_namespace("namespace", namespace) == full


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("joint states", "has ' '; ROS names have letters, digits, _ and / only"),
        ("left-arm/commands", "'left-arm/commands' has '-'"),
        ("joint_states/", "none at the end"),
        ("//joint_states", "write one / between two names"),
        ("1arm/joint_states", r"begins with a digit \(1arm\)"),
        ("arm/2/joint_states", r"begins with a digit \(2\)"),
        ("", "has an empty part"),
        ("/", "has an empty part"),
        ("~/joint_states", "another topic in each node; write the full name"),
        ("~", "another topic in each node"),
        ("{ns}/joint_states", "has a substitution; leave it out"),
        ("joint_states}", "has a substitution"),
        ("é", "has 'é'"),
        ("a\nb", r"has '\\n'"),
        ("a" * 300, r"'a{57}\.\.\.' has 300 characters; ROS takes 247"),
    ],
)
def test_a_wrong_topic_is_told_what_is_wrong_with_it(name, words):
    with pytest.raises(ContractError, match=words):
        check_topic("action.topic", name)


def edited(change, path=VX300S):
    data = strict_yaml.load(path)
    change(data)
    return data


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("action.topic", lambda d, t: d["action"].update(topic=t)),
        ("observation.state.topic", lambda d, t: d["observation.state"].update(topic=t)),
        (
            "observation.images.wrist.topic",
            lambda d, t: d["observation.images.wrist"].update(topic=t),
        ),
        ("teleop.leader.topic", lambda d, t: d["teleop"]["leader"].update(topic=t)),
        (
            "teleop.leader.deadman.topic",
            lambda d, t: d["teleop"]["leader"]["deadman"].update(topic=t),
        ),
    ],
)
def test_every_topic_of_a_contract_is_checked_and_its_own(where, change):
    for topic, words in (
        ("left-arm/x", "ROS names have"),
        ("~/x", "another topic in each node"),
        # The same as `front/image_raw`, which the front camera has.
        ("/front/image_raw", r"/front/image_raw"),
        ("rewact/action_chunk", "a topic of ROS or of this package"),
        ("/rosout", "a topic of ROS or of this package"),
    ):
        with pytest.raises(ContractError, match=rf"{where}: .*{words}|front.topic: .*{where}"):
            parse_contract(edited(lambda d, t=topic: change(d, t)))


def test_topics_are_compared_as_the_namespace_makes_them(tmp_path):
    robot = parse_contract(edited(lambda d: d["action"].update(topic="/left/joint_states")))
    check_topics(robot, "/right")
    path = tmp_path / "robot.yaml"
    path.write_text(VX300S.read_text().replace("topic: arm/commands", "topic: /left/joint_states"))
    assert load_contract(path).hash == load_contract(path, "/right").hash == robot.hash
    with pytest.raises(ContractError, match=r"robot.yaml: .*/left/joint_states"):
        load_contract(path, "/left")
    with pytest.raises(ContractError, match=r"'joint_states' .* action.topic \(/left/joint_states"):
        check_topics(robot, "/left")
    with pytest.raises(ContractError, match=r"observation.state.topic: .* longer than ROS's 247"):
        check_topics(robot, "/" + "a" * 240)
    check_topics(robot, "/rewact")  # a robot may be called that; its own topics are two below
    with pytest.raises(ContractError, match="action.topic: .*of this package"):
        check_topics(
            parse_contract(edited(lambda d: d["action"].update(topic="/left/rewact/x"))), "/left"
        )


def test_parts_of_a_robot_may_share_what_they_listen_to_but_not_what_they_command():
    def same_state(data):
        data["observation.state"][1]["topic"] = "/arms/joint_states"

    assert parse_contract(edited(same_state, G1)).state[1].topic == "/arms/joint_states"

    def same_command(data):
        data["action"][1]["topic"] = "/arms/commands"

    with pytest.raises(ContractError, match=r"action\[1\].topic: .* of action\[0\].topic"):
        parse_contract(edited(same_command, G1))

    def one_gamepad(data):
        data["teleop"]["leader"]["deadman"]["topic"] = "/joy"

    assert parse_contract(edited(one_gamepad))

    def deadman_is_state(data):
        data["teleop"]["leader"]["deadman"]["topic"] = "joint_states"

    with pytest.raises(ContractError, match=r"leader.deadman.topic: .* of observation.state.topic"):
        parse_contract(edited(deadman_is_state))


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("front", True),
        ("front_left", True),
        ("cam-1.left", True),
        ("0", True),
        ("a" * MAX_NAME, True),
        ("a" * (MAX_NAME + 1), False),
        ("", False),
        ("front/left", False),
        (".front", False),
        ("front.", False),
        ("a..b", False),
        ("a b", False),
        ("é", False),
        ("front\n", False),
    ],
)
def test_a_feature_is_named_so_that_it_can_be_part_of_a_file_name(name, taken):
    if taken:
        assert check_feature("observation.images", name) == name
    else:
        with pytest.raises(ContractError, match="^observation.images: expected a name of at most"):
            check_feature("observation.images", name)
    data = edited(lambda d: d.update({f"observation.images.{name}": {"topic": "x", **CAMERA}}))
    source = edited(lambda d: d["teleop"].update({name: {"topic": "x"}}))
    for contract in (data, source):
        if taken and name != "front":
            parse_contract(contract)
        elif not taken:
            with pytest.raises(ContractError, match="expected a name of at most"):
                parse_contract(contract)


CAMERA = {"type": "sensor_msgs/msg/Image", "shape": [48, 64, 3], "max_age_s": 0.3}


@pytest.mark.parametrize("name", ["", " a", "a ", "a\tb", "a\u202eb", "a" * (MAX_NAME + 1)])
def test_a_joint_or_robot_has_a_name_that_can_be_printed(name):
    with pytest.raises(ContractError, match="^j: expected a name of 1 to 100 printable"):
        check_text_name("j", name)
    for change in (
        lambda d: d.update(robot=name),
        lambda d: d["observation.state"]["joints"].append(name),
    ):
        with pytest.raises(ContractError, match="^(robot|observation.state.joints)"):
            parse_contract(edited(change))


def test_names_of_other_tongues_and_of_models_are_names():
    for name in ("épaule", "肩", "vx300s_left/waist", "a" * MAX_NAME, "left arm"):
        assert check_text_name("j", name) == name
    with pytest.raises(ContractError, match=r"robot: expected a name that a file may have.*\.\./x"):
        parse_contract(edited(lambda d: d.update(robot="../x")))
    with pytest.raises(ContractError, match=r"joints\[7\]: 'default' stands for all"):
        parse_contract(edited(lambda d: d["observation.state"]["joints"].append("default")))
    with pytest.raises(ContractError, match=r"joints\[7\]: expected a joint name, got 1 \(int\)"):
        parse_contract(edited(lambda d: d["observation.state"]["joints"].append(1)))


@pytest.mark.parametrize("name", ["{node", "node}", "a/{b}"])
def test_one_brace_is_a_substitution_too(name):
    with pytest.raises(ContractError, match="has a substitution"):
        check_topic("topic", name)


def test_a_name_is_shown_whole_up_to_sixty_characters():
    for size, shown in ((60, "'-" + "a" * 59 + "'"), (61, "'-" + "a" * 56 + "...'")):
        with pytest.raises(ContractError) as told:
            check_topic("topic", "-" + "a" * (size - 1))
        assert f"topic: the topic {shown} " in str(told.value)


NODES = (
    HilNode, PolicyNode, RecorderNode, RewardModelNode, ScriptedHumanNode, SimNode, SupervisorNode,
    TeleopNode, TransitionsNode,
)  # fmt: skip


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_compares_topics_as_its_namespace_makes_them(node, tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(VX300S.read_text().replace("topic: arm/commands", "topic: /left/joint_states"))
    ours = [
        f"contract:={path}",
        f"bags_dir:={tmp_path}",
        f"policy:={tmp_path}",
        f"model:={tmp_path}",
    ]
    arguments = ["--ros-args", "-r", "__ns:=/left", "--disable-rosout-logs"]
    for value in (*ours, f"journal:={tmp_path / 'j'}"):
        arguments += ["-p", value]
    rclpy.init(args=arguments)
    try:
        with pytest.raises((ContractError, ConfigurationError), match=f"{path}: .*/left/joint"):
            node()
    finally:
        rclpy.shutdown()
