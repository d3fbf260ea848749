"""Parameters and parameter files: read in their own type, or refused before anything starts."""

import subprocess
import sys
from dataclasses import fields

import pytest
import rclpy
from conftest import VX300S
from rcl_interfaces.srv import DescribeParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from rewact_ros.ros.parameter_values import ParameterError, check_value
from rewact_ros.ros.params import (
    NODE_PARAMS,
    HilParams,
    LearnerParams,
    RecorderParams,
    SimParams,
    SupervisorParams,
    declare,
    params_yaml,
)
from rewact_ros.ros.params_file import check_params_file
from rewact_ros.stack.bringup import BringUp, Process


@pytest.fixture
def node_with():
    """Make a node `hil` with ROS arguments, as a command line gives them."""
    made = []

    def make(*arguments):
        context = Context()
        rclpy.init(args=["--ros-args", *arguments], context=context)
        made.append((context, Node("hil", context=context)))
        return made[-1][1]

    yield make
    for context, node in made:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_a_whole_number_is_taken_for_a_number_from_command_line_and_file(node_with, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(
        "/**/hil:\n  ros__parameters:\n    status_hz: 20\n    ensemble_coefficient: 1\n"
    )
    node = node_with("-p", "lease_timeout_s:=1", "--params-file", str(file))
    read = declare(node, HilParams)
    assert (read.lease_timeout_s, read.status_hz, read.ensemble_coefficient) == (1.0, 20.0, 1.0)
    for name in ("lease_timeout_s", "status_hz"):
        assert type(getattr(read, name)) is float
        assert node.get_parameter(name).type_ == rclpy.Parameter.Type.DOUBLE
    assert read.crossfade_s == 0.1 and node.get_parameter("priority").value == 0


def test_ros_shows_meaning_unit_bounds_and_choices(node_with):
    node = node_with()
    declare(node, HilParams)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    client = node.create_client(DescribeParameters, "hil/describe_parameters")
    assert client.wait_for_service(timeout_sec=30)
    wanted = ["lease_timeout_s", "cpu", "combine", "dry_run", "contract"]
    future = client.call_async(DescribeParameters.Request(names=wanted))
    executor.spin_until_future_complete(future, timeout_sec=30)
    lease, cpu, combine, dry_run, contract = future.result().descriptors
    bounds = lease.floating_point_range[0]
    assert (bounds.from_value, bounds.to_value, bounds.step) == (0.1, 5.0, 0.0)
    assert lease.description == "silence of the supervisor after which motion stops [s]"
    assert lease.type == rclpy.Parameter.Type.DOUBLE.value and not lease.dynamic_typing
    bounds = cpu.integer_range[0]
    assert (bounds.from_value, bounds.to_value, bounds.step) == (-1, 1023, 1)
    assert combine.additional_constraints == "one of replace, crossfade, ensemble"
    assert not (dry_run.integer_range or dry_run.additional_constraints)
    assert all(each.read_only for each in (lease, cpu, combine, dry_run, contract))


def test_a_bound_on_one_side_leaves_the_other_open(node_with):
    assert declare(node_with("-p", "seed:=9223372036854775807"), SimParams).seed == 2**63 - 1
    node = node_with("-p", "completion:=1e300")
    assert declare(node, LearnerParams).completion == 1e300
    bounds = node.describe_parameter("completion").floating_point_range[0]
    assert bounds.from_value == 0.01 and bounds.to_value > 1e308


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("lease_timeout_s:=9", "lease_timeout_s: expected a number of 0.1 to 5 s, got 9.0"),
        ("lease_timeout_s:=0.05", "expected a number of 0.1 to 5 s, got 0.05"),
        ("lease_timeout_s:=.nan", "expected a number of 0.1 to 5 s, got nan"),
        ("lease_timeout_s:=fast", r"got 'fast' \(str\); write it without quotes"),
        ("lease_timeout_s:=true", r"expected a number of 0.1 to 5 s, got True \(bool\)"),
        ("priority:=1.0", "priority: expected a whole number of 0 to 99, got 1.0 .float.; write 1"),
        ("priority:=1.5", r"expected a whole number of 0 to 99, got 1.5 \(float\)$"),
        ("priority:=100", "got 100"),
        ("priority:=true", r"got True \(bool\)"),
        ("dry_run:='on'", "dry_run: expected true or false, got 'on' .str.; write it without"),
        ("dry_run:=1", r"expected true or false, got 1 \(int\)"),
        ("combine:=average", "expected one of replace, crossfade, ensemble, got 'average'"),
        ("contract:=1e3", "contract: expected text, got 1000.0 .float.; quote text that looks"),
        ("contract:=on", "expected text, got True .bool.; quote text"),
        ("cpu:=[1, 2]", r"expected a whole number of -1 to 1023, got \[1, 2\]"),
    ],
)
def test_a_wrong_parameter_names_node_expected_got_and_mend(node_with, argument, words):
    with pytest.raises(
        ParameterError, match=rf"^hil: parameter {argument.partition(':')[0]}: "
    ) as e:
        declare(node_with("-p", argument.replace("'on'", "\"'on'\"")), HilParams)
    assert e.match(words.replace("got 'on'", "got .'on'.")) and "\n" not in str(e.value)


def field_of(kind, name):
    return next(field for field in fields(kind) if field.name == name)


def test_topics_in_parameters_are_checked_as_those_of_a_contract():
    joy = field_of(RecorderParams, "joy_topic")
    reset = field_of(SupervisorParams, "reset_service")
    assert check_value("recorder", joy, "/pad/joy") == "/pad/joy"
    assert check_value("supervisor", reset, "") == ""
    with pytest.raises(ParameterError, match="recorder: parameter joy_topic: .*ROS names have"):
        check_value("recorder", joy, "left-pad/joy")
    with pytest.raises(ParameterError, match="supervisor: parameter reset_service: .*digit"):
        check_value("supervisor", reset, "1arm/reset")


def test_every_default_is_within_its_own_bounds():
    for node, kind in NODE_PARAMS.items():
        for field in fields(kind):
            assert check_value(node, field, field.default) == field.default


HIL = "/**/hil:\n  ros__parameters:\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        params_yaml(),
        HIL + "    lease_timeout_s: 1\n    dry_run: on\n    use_sim_time: true\n",
        HIL + "    qos_overrides: {/arm/commands: {publisher: {depth: 1}}}\n",
        "left:\n  hil:\n    ros__parameters: {dry_run: Yes, lock_memory: off, cpu: -1}\n",
        "/**:\n  ros__parameters: {use_sim_time: true, robot_description: x, threads: 2}\n",
        "camera_driver:\n  ros__parameters: {exposure: 010.5, dry_run: 5}\n",
        "/**: {ros__parameters: {cpu: 1}}\n/**/hil: {ros__parameters: {cpu: 2}}\n"
        "left/hil: {ros__parameters: {cpu: 3}}\nright/hil: {ros__parameters: {cpu: 4}}\n",
    ],
)
def test_a_parameter_file_may_hold_what_ros_takes_and_what_others_own(tmp_path, text):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    check_params_file(file)
    rclpy.init(args=["--ros-args", "--params-file", str(file)], context=(context := Context()))
    rclpy.shutdown(context=context)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HIL + "    cpu: 1\n    cpu: 2\n", "line 4: .*hil.ros__parameters.cpu: given twice"),
        (HIL + "    cpu: 1\n" + HIL + "    cpu: 2\n", "line 4: .*hil: given twice"),
        (HIL + "    priority: 010\n", "line 3: .*priority: 010 is octal"),
        (HIL + "    lease_timeout: 1.0\n", "no.* of that name; did you mean lease_timeout_s"),
        (HIL + "    qqq: 1.0\n", "parameter qqq: hil has none of that name; `rewact params` lists"),
        (HIL + "    cpu: {a: 1}\n", r"parameter cpu\.a: hil has none"),
        (HIL + "    cpu: 1.0\n", "hil: parameter cpu: expected a whole number"),
        (HIL + "    dry_run: maybe\n", "hil: parameter dry_run: expected true or false"),
        (HIL + "    combine:\n", "expected one of replace, crossfade, ensemble, got None"),
        ("/**/hill:\n  ros__parameters: {cpu: 1}\n", "/hill: no such node; did you mean hil"),
        ("/left/supervisr: {ros__parameters: {x: 1}}", "did you mean supervisor"),
        ("/**:\n  ros__parameters: {threads: 0}\n", "parameter threads: expected a whole number"),
        ("hil: {cpu: 1}", r"/hil/cpu: expected NODE: \{ros__parameters"),
        ("hil: {ros__parameters: [cpu]}", r"/hil.ros__parameters: expected NAME: VALUE"),
        ("ros__parameters: {cpu: 1}", "ros__parameters: expected it below a node's name, hil"),
        (
            "/hil: {ros__parameters: {cpu: 1}}\nhil: {ros__parameters: {cpu: 2}}",
            "/hil: parameter cpu: given twice, its name written in two ways; keep one",
        ),
        (
            "a/hil: {ros__parameters: {cpu: 1}}\na: {hil: {ros__parameters: {cpu: 1}}}",
            "/a/hil: parameter cpu: given twice",
        ),
        ("camera: {ros__parameters: {a.b: 1, a: {b: 2}}}", r"/camera: parameter a\.b: given twice"),
        ("[1]", "top level: expected NODE"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_parameter_file_that_a_node_would_read_otherwise_is_refused(tmp_path, text, words):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ParameterError, match=rf"^params_file .*params\.yaml: .*{words}") as error:
        check_params_file(file)
    assert "\n" not in str(error.value)


def test_a_parameter_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"params_file .*gone.yaml: No such file"):
        check_params_file(tmp_path / "gone.yaml")


def test_wrong_ros_arguments_end_a_node_with_one_line_and_no_restart(tmp_path):
    """Bring-up starts a process again unless it ends with 2."""
    doubled = tmp_path / "doubled.yaml"
    doubled.write_text(HIL + "    cpu: 0\n    cpu: 1\n")
    cases = {
        ("--params-file", str(doubled)): "doubled.yaml: line 4",
        ("-r", "__ns:=/1left"): "/1left",
        ("-p", "use_sim_time:=1"): "use_sim_time",
    }
    contract = ("-p", f"contract:={VX300S}")
    started = {
        words: subprocess.Popen(
            [sys.executable, "-m", "rewact_ros.nodes.hil", "--ros-args", *contract, *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments, words in cases.items()
    }
    for words, process in started.items():
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 2, errors
        assert "Traceback" not in errors
        assert words in next(line for line in errors.splitlines() if line.startswith("error: "))


def test_what_bring_up_gives_a_node_arrives_as_it_is(node_with):
    """A path may look like a number, or have quotes in it."""
    given = {
        "contract": 'a "b\\c.yaml',
        "combine": "1e3",
        "dry_run": True,
        "cpu": 3,
        "status_hz": 5.0,
    }
    process = Process("hil", "rewact_ros.nodes.hil", given, sys.executable, respawn=False)
    node = node_with(*process.command()[5:])
    for name, value in given.items():
        node.declare_parameter(name, value)
        assert node.get_parameter(name).value == value


def test_bring_up_refuses_what_ros_would_refuse_in_every_process(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(HIL + "    cpu: 0\n    cpu: 1\n")
    with pytest.raises(ValueError, match=r"params_file .*line 4: .*given twice"):
        BringUp(params_file=str(file))
    for namespace in ("1left", "left-arm", "left//arm", "left arm"):
        with pytest.raises(ValueError, match=f"namespace: the namespace '{namespace}'"):
            BringUp(namespace=namespace)
    for namespace in ("", "/", "left", "/left/arm/"):
        BringUp(namespace=namespace)
