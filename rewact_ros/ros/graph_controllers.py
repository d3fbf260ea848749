"""Grippers' action servers of a graph, and what its controller_manager says of its controllers."""

from typing import Any

from rclpy.action import get_action_server_names_and_types_by_node
from rclpy.node import Node

from rewact_ros.contract.found import Controller, usable_topic
from rewact_ros.contract.tables import GOAL_TYPES
from rewact_ros.ros.controllers import ACTIVE
from rewact_ros.ros.graph_spin import PARAMETER_TIMEOUT_S, Spin

try:  # no wheel has it: ros-jazzy-controller-manager-msgs of a ROS installation
    from controller_manager_msgs import srv
except ImportError:
    srv = None

LIST_TYPE = "controller_manager_msgs/srv/ListControllers"
_LIST = "/list_controllers"


def gripper_actions(node: Node, notes: list[str]) -> list[tuple[str, str, str]]:
    """(action, its type, node that serves it) of every gripper's action server."""
    found = []
    for name, space in sorted(set(node.get_node_names_and_namespaces())):
        if name == node.get_name():
            continue
        served = get_action_server_names_and_types_by_node(node, name, space)
        for action, types in served:
            wanted = [type_ for type_ in types if type_ in GOAL_TYPES]
            if wanted and usable_topic(action, "graph", notes):
                found.append((action, wanted[0], f"{space.rstrip('/')}/{name}"))
    return sorted(found)


def list_controllers(node: Node, spin: Spin, notes: list[str]) -> tuple[str, list[Controller]]:
    """The controller manager of the graph and its controllers; "" where none answers."""
    services = node.get_service_names_and_types()
    managers = sorted(name.removesuffix(_LIST) for name, types in services if LIST_TYPE in types)
    if not managers:
        return "", []
    if srv is None:
        notes.append(
            f"graph: {managers[0]} is not asked for its controllers: controller_manager_msgs is "
            "not installed (apt-get install ros-jazzy-controller-manager-msgs)"
        )
        return "", []
    inside = node.get_namespace().rstrip("/") + "/"
    own = [each for each in managers if each.startswith(inside)] or managers
    if len(managers) > 1:
        notes.append(f"graph: {len(managers)} controller managers; {own[0]} is asked")
    client: Any = node.create_client(srv.ListControllers, own[0] + _LIST)
    try:
        spin(client.service_is_ready, PARAMETER_TIMEOUT_S)
        asked = client.call_async(srv.ListControllers.Request())
        if not spin(asked.done, PARAMETER_TIMEOUT_S):
            notes.append(f"graph: {own[0]} does not answer; no controllers are written")
            return "", []
        answer = asked.result().controller
    finally:
        node.destroy_client(client)
    found = [
        Controller(
            each.name,
            each.state == ACTIVE,
            tuple(dict.fromkeys((*each.required_command_interfaces, *each.claimed_interfaces))),
        )
        for each in answer
    ]
    return own[0].removeprefix(inside), [each for each in found if each.interfaces]


def joints_of_interfaces(controller: Controller) -> tuple[tuple[str, ...], str]:
    """Joints of `joint/position` and the like, in order, and the kind of command."""
    parts = [each.rpartition("/") for each in controller.interfaces]
    kinds = {kind for _, _, kind in parts}
    joints = tuple(dict.fromkeys(joint for joint, _, kind in parts if joint and kind))
    return joints, "velocity" if kinds == {"velocity"} else "position"
