"""`rewact contract init` before a running robot: grippers, controllers, poses, depth, and who asks.

The robot has joints that nobody wants, in another order than the data set, which has LeRobot's
names; its gripper is an action of its own.
"""

import json
import sys

import numpy as np
import pytest
from conftest import ROOT
from generated_interfaces import generate
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.action import ActionServer
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float32

from rewact_ros.cli.contract_init import find, write
from rewact_ros.contract import ContractError, load_contract
from rewact_ros.contract.choices import Choices
from rewact_ros.ros import graph_controllers
from rewact_ros.ros.graph_facts import open_graph
from rewact_ros.ros.interfaces import SENSOR_OUT

sys.path.append(str(ROOT / "benchmarks"))
ARM = ("shoulder_pan", "shoulder_lift", "elbow")
LIMIT = '<limit lower="-2" upper="2" velocity="2" effort="1"/>'
SLIDE = '<limit lower="0" upper="0.05" velocity="0.1" effort="1"/>'


def joint(name, parent, child, type_="revolute", limit=LIMIT):
    return (
        f'<joint name="{name}" type="{type_}"><parent link="{parent}"/><child link="{child}"/>'
        f"{limit}</joint>"
    )


LINKS = ("base", "one", "two", "three", "flange", "finger", "other_finger")
URDF = (
    '<robot name="newarm">'
    + "".join(f'<link name="{link}"/>' for link in LINKS)
    + joint("shoulder_pan", "base", "one")
    + joint("shoulder_lift", "one", "two")
    + joint("elbow", "two", "three")
    + joint("mount", "three", "flange", "fixed", "")
    + joint("gripper_slide", "flange", "finger", "prismatic", SLIDE)
    + joint("mirror", "finger", "other_finger", "prismatic", SLIDE.replace("/>", "/>") +
            '<mimic joint="gripper_slide"/>')
    + "</robot>"
)  # fmt: skip
CAMERAS = {
    name: {"topic": topic, "type": "sensor_msgs/msg/CompressedImage", "shape": [48, 64, 3]}
    for name, topic in (("top", "cam_a/compressed"), ("side", "cam_b/compressed"))
}
FLOATS = "std_msgs/msg/Float64MultiArray"


def about(**changes):
    return {
        "joint_states": {
            "joint_states": ["gripper_slide", "wheel", "elbow", "mirror", "shoulder_pan",
                             "shoulder_lift"]
        },
        "joint_rate_hz": 50,
        "cameras": CAMERAS,
        "controllers": [
            {"topic": "forward_position_controller/commands", "type": FLOATS,
             "node": "forward_position_controller", "joints": list(ARM)},
            {"topic": "joint_trajectory_controller/joint_trajectory",
             "type": "trajectory_msgs/msg/JointTrajectory",
             "node": "joint_trajectory_controller", "joints": list(ARM)},
        ],
        **changes,
    }  # fmt: skip


def info(folder, state, action, cameras=("top", "side")):
    """What LeRobot writes of a data set; returns its folder."""
    features = {
        key: {"dtype": "float32", "shape": [len(names)], "names": list(names)}
        for key, names in (("observation.state", state), ("action", action))
    }
    for camera in cameras:
        features[f"observation.images.{camera}"] = {
            "dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"],
        }  # fmt: skip
    said = {
        "codebase_version": "v3.0", "fps": 20, "total_episodes": 1, "total_frames": 10,
        "total_tasks": 1, "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }  # fmt: skip
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(said))
    return folder


class Robot:
    """A fake driver and, beside it, nodes that `others` (name → function of the node) fill."""

    def __init__(self, description, pose=None, **others):
        import rclpy
        from robot_drivers import FakeDriver

        context = rclpy.get_default_context()
        places = dict.fromkeys((*description["joint_states"].get("joint_states", ()),), 0.01)
        self.driver = FakeDriver("", context, True, description, URDF, {**places, **(pose or {})})
        self.nodes = []
        for name, fill in others.items():
            node = Node(name, use_global_arguments=False)
            self.nodes.append((node, fill(node)))
            self.driver.executor.add_node(node)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.close()
        for node, made in self.nodes:
            if isinstance(made, ActionServer):
                made.destroy()
            node.destroy_node()


def look(*sources):
    from rewact_ros.contract.found import merge

    return merge([open_graph("/", 1.5, controllers=True), *sources])


def data_set(folder, *args, **kwargs):
    return find(False, False, None, info(folder, *args, **kwargs), None, None)


@pytest.fixture(scope="module")
def packages(graph):
    """control_msgs and controller_manager_msgs, as a ROS installation has them."""
    generate("control_msgs", ("action_msgs", "sensor_msgs"))
    generate("controller_manager_msgs", ("builtin_interfaces",))
    from control_msgs import action
    from controller_manager_msgs import msg, srv

    graph_controllers.srv = srv
    yield action, msg, srv
    graph_controllers.srv = None


def gripper_server(actions, type_, joint_name):
    def fill(node):
        if joint_name:
            node.declare_parameter("joint", joint_name)
        server = ActionServer(node, getattr(actions, type_), f"~/{type_}", lambda handle: None)
        return server

    return fill


def manager(msg, srv, active):
    needs = {
        "forward_position_controller": [f"{j}/position" for j in ARM],
        "joint_trajectory_controller": [f"{j}/position" for j in ARM],
        "hand_controller": ["gripper_slide/position"],
        "joint_state_broadcaster": [],
    }

    def listed(request, response):
        response.controller = [
            msg.ControllerState(
                name=name,
                state="active" if name in active else "inactive",
                claimed_interfaces=needed if name in active else [],
                required_command_interfaces=needed,
            )
            for name, needed in needs.items()
        ]
        return response

    return lambda node: node.create_service(srv.ListControllers, "~/list_controllers", listed)


@pytest.mark.parametrize(
    ("type_", "told"), [("GripperCommand", "gripper_slide"), ("ParallelGripperCommand", "")]
)
def test_a_grippers_action_the_controllers_and_lerobots_names_are_found(
    packages, tmp_path, type_, told
):
    actions, msg, srv = packages
    names = [*(f"{j}.pos" for j in ARM), "gripper_slide.pos"]
    ours = ("joint_trajectory_controller", "hand_controller")
    robot = Robot(
        about(),
        hand_controller=gripper_server(actions, type_, told),
        controller_manager=manager(msg, srv, ours),
    )
    with robot:
        found = look(data_set(tmp_path / "data", names, names))
    write(found, tmp_path / "robot.yaml")
    made = load_contract(tmp_path / "robot.yaml")
    assert made.robot == "newarm" and made.rate_hz == 20
    assert made.state_names == made.action_names == tuple(names)
    assert made.state[0].drivers == (*ARM, "gripper_slide")
    arm, gripper = made.action
    # The active one of the two that take the arm.
    assert arm.topic == "joint_trajectory_controller/joint_trajectory"
    assert arm.drivers == ARM and arm.position[0] == (-2, 2)
    assert gripper.drive.topic == f"hand_controller/{type_}"
    assert gripper.drive.type == f"control_msgs/action/{type_}"
    assert gripper.units == ("m",) and gripper.position == ((0, 0.05),)
    assert made.command_rate_hz % gripper.command_rate_hz == 0
    assert made.controllers.activate == ours
    assert made.controllers.deactivate == ("forward_position_controller",)
    assert {c.name: c.topic for c in made.cameras}.keys() == {"top", "side"}
    # The inactive one, where that is what somebody wants.
    wanted = Choices(commands={"forward_position_controller/commands": ()})
    write(found, tmp_path / "other.yaml", wanted)
    other = load_contract(tmp_path / "other.yaml")
    assert other.action[0].type == FLOATS
    assert other.controllers.deactivate == ("joint_trajectory_controller",)


def test_a_gripper_on_a_topic_of_its_own_degrees_and_what_nobody_measures(graph, tmp_path):
    from rewact_ros.contract.tables import FLOAT64

    description = about(
        controllers=[
            {"topic": "arm/commands", "type": FLOATS, "node": "arm", "joints": list(ARM)},
            {"topic": "hand/gripper_command", "type": FLOAT64, "node": "hand", "joints": []},
        ]
    )
    state = [f"{j}.pos" for j in ARM]
    with Robot(description, {"elbow": 90.0, "shoulder_pan": -30.0}):
        found = look(data_set(tmp_path / "data", state, [*state, "gripper.pos"]))
    write(found, tmp_path / "robot.yaml")
    made = load_contract(tmp_path / "robot.yaml")
    arm, gripper = made.action
    assert made.state_names == tuple(state) and made.action_names == (*state, "gripper.pos")
    assert made.state[0].scale == pytest.approx((np.pi / 180,) * 3)
    assert arm.scale == made.state[0].scale and arm.position[0] == (-2, 2)
    assert (gripper.topic, gripper.type) == ("hand/gripper_command", FLOAT64)
    assert not gripper.observed and gripper.rest == (0,) and gripper.units == ("m",)
    text = (tmp_path / "robot.yaml").read_text()
    assert "guess: elbow is at 90, and deg fits where rad does not" in text
    assert "guess: names that are like the driver's" not in text  # `.pos` is LeRobot's, no guess


@pytest.mark.parametrize(
    ("state", "action", "words"),
    [
        (
            ["hip", *ARM],
            ARM,
            "has joint hip, but graph: joint_states.* --joint hip=JOINT",
        ),
        (ARM, ARM[::-1], "has the order elbow, shoulder_lift, shoulder_pan, the controllers take"),
        (ARM, ARM[:2], "arm/commands takes elbow, which is not in the action of"),
        (ARM[:2], ARM, "of these elbow is in no observation"),
        ([*(f"ee.{a}" for a in ("x", "y", "z", "wx", "wy", "wz")), *ARM], ARM,
         "has ee.x to ee.wz, but no topic sends geometry_msgs/msg/PoseStamped; there are none"),
    ],
)  # fmt: skip
def test_what_no_contract_can_say_is_refused_with_the_way_out(
    running_arm, tmp_path, state, action, words
):
    from rewact_ros.contract.found import merge

    found = merge([running_arm, data_set(tmp_path / "data", state, action)])
    with pytest.raises(ContractError, match=words):
        write(found, tmp_path / "x.yaml")
    assert not (tmp_path / "x.yaml").exists()


@pytest.fixture(scope="module")
def running_arm(graph):
    """What an arm without a hand tells; looked at once."""
    one = {"topic": "arm/commands", "type": FLOATS, "node": "arm", "joints": list(ARM)}
    with Robot(about(controllers=[one])):
        return look()


def test_an_option_that_names_nothing_lists_what_there_is(running_arm, tmp_path):
    for choices, words in (
        (Choices(cameras={"top": "nowhere"}), "--camera: expected one of cam_a/compressed, cam_b"),
        (Choices(commands={"nowhere": ()}), "--command: expected one of arm/commands, got nowhere"),
        (Choices(states=("nowhere",)), "--state: expected one of joint_states, got nowhere"),
        (Choices(values={"ee": "nowhere"}), "--value: expected one of none: nothing was found"),
    ):
        with pytest.raises(ContractError, match=words):
            write(running_arm, tmp_path / "x.yaml", choices)


# Beside joints -------------------------------------------------------------------------------

POSE = tuple(f"ee.{a}" for a in ("x", "y", "z", "wx", "wy", "wz"))


def publishing(*streams):
    """Function that lets a node publish (topic, message) 50 times a second."""

    def fill(node):
        publishers = [(node.create_publisher(type(m), t, SENSOR_OUT), m) for t, m in streams]

        def publish():
            for publisher, message in publishers:
                if hasattr(message, "header"):
                    message.header.stamp = node.get_clock().now().to_msg()
                publisher.publish(message)

        return node.create_timer(0.02, publish)

    return fill


def pose(frame="base"):
    message = PoseStamped()
    message.header.frame_id = frame
    message.pose.orientation.w = 1.0
    return message


def depth_image():
    image = Image(height=48, width=64, encoding="16UC1", step=128)
    image.data.frombytes(bytes(48 * 128))
    return image


def test_poses_wrenches_numbers_and_a_cartesian_command_are_found(graph, tmp_path):
    streams = publishing(
        ("tcp_pose", pose()), ("camera_pose", pose("camera")), ("ft", WrenchStamped()),
        ("tcp_twist", TwistStamped()), ("gripper/width", Float32()), ("box/temperature", Float32()),
    )  # fmt: skip
    state = (
        *POSE, *(f"force.{a}" for a in ("fx", "fy", "fz", "tx", "ty", "tz")), "temperature",
        *(f"speed.{a}" for a in ("vx", "vy", "vz", "wx", "wy", "wz")),
    )  # fmt: skip
    listen = lambda node: node.create_subscription(  # noqa: E731
        TwistStamped, "servo/delta_twist_cmds", lambda msg: None, 10
    )
    hand = [{"topic": "hand/commands", "type": FLOATS, "node": "hand",
             "joints": ["gripper_slide"]}]  # fmt: skip
    with Robot(about(controllers=hand), sensors=streams, servo=listen):
        found = look(data_set(tmp_path / "data", state, POSE))
    write(found, tmp_path / "robot.yaml", Choices(values={"ee": "tcp_pose"}))
    made = load_contract(tmp_path / "robot.yaml")
    assert made.state_names == state and made.action_names == POSE
    assert [p.topic for p in made.state] == ["tcp_pose", "ft", "box/temperature", "tcp_twist"]
    part = made.action[0]
    assert part.drive.topic == "servo/delta_twist_cmds" and part.frame_id == "base"
    assert part.name == "ee" and part.controller_timeout_s == 0.1
    text = (tmp_path / "robot.yaml").read_text()
    assert text.count("guess: a box of 1 m") == 3


def test_poses_for_a_robot_that_takes_joints_need_its_kinematics(running_arm, tmp_path):
    from rewact_ros.contract.found import ValueStream, merge

    names = [*POSE]
    found = merge([running_arm, data_set(tmp_path / "data", names, names)])
    tcp = ValueStream("tcp", "geometry_msgs/msg/PoseStamped", 50.0, "graph: tcp", "base")
    found.values.append(tcp)
    written = write(found, tmp_path / "robot.yaml")
    made = load_contract(tmp_path / "robot.yaml")
    assert made.kinematics.frame == "flange"  # not a finger
    assert made.kinematics.joints == tuple((j, j) for j in ARM)
    assert written.model == tmp_path / "robot.urdf" and written.model.read_text() == URDF
    assert made.kinematics.model and made.action_names == ARM
    assert made.state_names == (*POSE, *ARM)
    again = write(found, tmp_path / "b.yaml", Choices(tip="finger"))
    assert load_contract(tmp_path / "b.yaml").kinematics.frame == "finger" and again.model


def test_a_depth_camera_is_one_and_a_robot_without_cameras_has_none(graph, tmp_path):
    streams = publishing(("camera/depth/image_rect_raw", depth_image()))
    with Robot(about(cameras={}), sensors=streams):
        found = look()
    write(found, tmp_path / "robot.yaml", Choices(commands={found.commands[0].topic: ()}))
    made = load_contract(tmp_path / "robot.yaml")
    (camera,) = made.cameras
    assert camera.depth == (0.2, 2.0) and camera.shape == (48, 64, 3)
    assert camera.topic == "camera/depth/image_rect_raw" and made.state_names == ARM
    found.cameras.clear()
    write(found, tmp_path / "blind.yaml")
    blind = load_contract(tmp_path / "blind.yaml")
    assert blind.cameras == () and blind.rate_hz == 30
    assert "guess: no camera's rate is known" in (tmp_path / "blind.yaml").read_text()
