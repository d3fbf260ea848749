"""ros2_control's controllers: switched on arm and disarm, and nothing moves without ours."""

import pytest
from generated_interfaces import generate
from stage import Stage, with_gripper

from rewact_ros.contract import ContractError, parse_contract
from rewact_ros.control.modes import Mode
from rewact_ros.ros import controllers

OURS, THEIRS = "forward_position_controller", "joint_trajectory_controller"
SECTION = {"activate": [OURS], "deactivate": [THEIRS]}


def robot(**section):
    return {
        **with_gripper(type="std_msgs/msg/Float64", command_rate_hz=25),
        "controllers": {**SECTION, **section},
    }


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"deactivate": [OURS]}, "deactivate: expected others than those of activate, got forward"),
        ({"activate": OURS}, "controllers.activate: expected a list of names"),
        ({"start": []}, "controllers.start: unknown key"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused_by_key(section, words):
    with pytest.raises(ContractError, match=words):
        parse_contract(robot(**section))


def test_a_manager_whose_services_are_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(controllers, "srv", None)
    with pytest.raises(ContractError, match="controller_manager_msgs is not installed"):
        controllers.ControllerSwitch(None, parse_contract(robot()).controllers)


@pytest.fixture(scope="module")
def services(graph):
    """The package's services, as a ROS installation has them."""
    generate("controller_manager_msgs", ("builtin_interfaces",))
    from controller_manager_msgs import msg, srv

    controllers.srv = srv
    yield msg, srv
    controllers.srv = None


class Manager:
    """A controller_manager: controllers with their states and interfaces, and what was asked."""

    def __init__(self, services):
        self.msg, self.srv = services
        self.interfaces = {OURS: ["waist/position"], THEIRS: ["waist/position"]}
        self.active, self.asked, self.willing = {THEIRS}, [], True

    def __call__(self, node):
        node.create_service(
            self.srv.ListControllers, "controller_manager/list_controllers", self._list
        )
        node.create_service(
            self.srv.SwitchController, "controller_manager/switch_controller", self._switch
        )

    def _list(self, request, response):
        response.controller = [
            self.msg.ControllerState(
                name=name,
                state="active" if name in self.active else "inactive",
                claimed_interfaces=interfaces if name in self.active else [],
                required_command_interfaces=interfaces,
            )
            for name, interfaces in self.interfaces.items()
        ]
        return response

    def _switch(self, request, response):
        start, stop = list(request.activate_controllers), list(request.deactivate_controllers)
        self.asked.append((start, stop))
        response.ok, response.message = self.willing, "" if self.willing else "hardware is off"
        if self.willing:
            self.active = (self.active | set(start)) - set(stop)
        return response


def test_ours_are_active_while_armed_and_theirs_again_after(services, tmp_path):
    manager = Manager(services)
    stage = Stage(robot(), tmp_path, manager)
    try:
        path = stage.lead()
        assert manager.active == {OURS} and manager.asked == [([OURS], [THEIRS])]
        stage.call("hil/disarm")
        stage.wait(lambda: manager.active == {THEIRS}, "back")
        assert manager.asked[1:] == [([THEIRS], [OURS])] and path.mode is Mode.DISARMED
        stage.lead()
        manager.active.discard(OURS)
        stage.wait(lambda: path.mode is Mode.HOLD, "hold")
        assert f"controller {OURS} is inactive" in path.modes.reason
        assert path.modes.resume_required
        manager.active.add(OURS)
        stage.wait(lambda: not path.absent, "back in sight")
        stage.call("hil/resume")
        stage.wait(lambda: path.mode is Mode.POLICY, "policy")
    finally:
        stage.close()


def test_a_switch_that_fails_leaves_the_robot_disarmed_and_says_why(services, tmp_path):
    manager = Manager(services)
    stage = Stage(robot(), tmp_path, manager)
    try:
        manager.willing = False
        stage.refused(f"controller_manager refused to activate {OURS}: hardware is off")
        manager.willing = True
        manager.interfaces["servo"] = ["waist/position", "elbow/position"]
        manager.active.add("servo")
        stage.refused("controller servo is active and claims waist/position")
        del manager.interfaces["servo"]
        manager.interfaces["forward_controller"] = manager.interfaces.pop(OURS)
        stage.refused(f"has no controller {OURS}; did you mean 'forward_controller'?")
        assert stage.hil.path.mode is Mode.DISARMED
        assert not any(stage.sent)  # nothing was commanded
        assert manager.active == {THEIRS, "servo"}
    finally:
        stage.close()


def test_without_a_manager_the_robot_is_not_armed(services, tmp_path):
    stage = Stage(robot(), tmp_path)
    try:
        stage.refused("no service controller_manager/switch_controller")
    finally:
        stage.close()
