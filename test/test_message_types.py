"""Which message classes a name from the graph may bring in: those of installed interfaces."""

import sys

import pytest
from sensor_msgs.msg import Joy

from rewact_ros.data.bags.message_types import is_installed, message_type
from rewact_ros.msg import Reward
from rewact_ros.nodes.recorder_topics import message_class


def test_installed_interfaces_are_found():
    assert message_class("sensor_msgs/msg/Joy") is Joy
    assert message_class("rewact_ros/msg/Reward") is Reward
    assert is_installed("std_srvs/srv/Trigger") and is_installed("std_srvs/srv/Trigger_Request")
    assert message_class("std_srvs/srv/Trigger") is None  # a service is no message
    assert message_class("sensor_msgs/msg/NoSuch") is None


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A Python package that is called like an interface package and is none."""
    package = tmp_path / "trap_msgs"
    (package / "msg").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "msg" / "__init__.py").write_text("class Trap:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_python_module_of_such_a_name_is_not_imported(module):
    assert message_class("trap_msgs/msg/Trap") is None
    assert "trap_msgs" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "",
        "json/decoder/JSONDecoder",
        "sensor_msgs/Joy",
        "sensor_msgs.msg/msg/Joy",
        "sensor_msgs/msg/../msg/Joy",
        "../sensor_msgs/msg/Joy",
        "sensor_msgs/msg/Joy\n",
        "sensor_msgs/msg/__builtins__",
        "sensor_msgs/msg/_joy",
        "Sensor_msgs/msg/Joy",
        "s" * 100_000 + "/msg/Joy",
        "../msg/secret",
    ],
)
def test_a_name_that_is_no_types_name_finds_nothing(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    (tmp_path / "share" / "x").mkdir(parents=True)
    (tmp_path / "msg").mkdir()
    (tmp_path / "msg" / "secret.msg").write_text("string all")  # where `share/..` leads
    assert not is_installed(name) and message_class(name) is None
    assert message_type(name).definition == "" and message_type(name).type_hash == ""
