"""Arguments, interpreters, locks and restarts of a bring-up: one rule for both front ends."""

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import VX300S
from typer.testing import CliRunner

import rewact_ros
from rewact_ros.cli.app import app
from rewact_ros.restarts import CONFIGURATION_FAULT, MAX_RESTARTS, RESTART_WINDOW_S, Restarts
from rewact_ros.stack.arguments import ArgumentError, BringUp, check_names
from rewact_ros.stack.bringup import Process, processes
from rewact_ros.stack.interpreters import check_interpreters
from rewact_ros.stack.judge_warning import judge_warnings
from rewact_ros.stack.robot_lock import BringUpError, RobotLock

PACKAGE = Path(rewact_ros.__file__).parent

# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "1", "yes", "Yes", "on", "ON", " on "])
def test_every_spelling_of_true_is_true(text):
    assert BringUp.from_texts({"dry_run": text}).dry_run is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "NO", "off", "Off"])
def test_every_spelling_of_false_is_false(text):
    assert BringUp.from_texts({"dry_run": text}).dry_run is False


WRONG = [
    ("dry_run", "maybe"),
    ("dry_run", ""),
    ("dry_run", "tru"),
    ("dry_run", "2"),
    ("sim", "y"),
    ("use_sim_time", "none"),
    ("seed", "abc"),
    ("seed", ""),
    ("seed", "1.0"),
    ("seed", "1_000"),
    ("seed", "0x10"),
    ("seed", "-1"),
    ("seed", "9" * 25),
    ("seed", "9" * 5000),
    ("real_time_factor", "fast"),
    ("real_time_factor", "nan"),
    ("real_time_factor", "inf"),
    ("real_time_factor", "-2"),
    ("real_time_factor", "0"),
    ("real_time_factor", "1_0"),
    ("device", "gpu"),
    ("device", ""),
    ("device", "CPU"),
    ("log_level", "loud"),
    ("namespace", "a-b"),
    ("namespace", "1st"),
    ("namespace", "a//b"),
    ("contract", "nowhere.yaml"),
    ("contract", "a\nb"),
    ("lerobot_robot", "nowhere.yaml"),
    ("policy", "nowhere"),
    ("policy", "/etc"),
    ("success_model", "/etc"),
    ("remap", "front"),
    ("remap", "a=b"),
    ("remap", "a:=b:=c"),
    ("remap", "__node:=other"),
    ("remap", "hil:__ns:=/other"),
    ("remap", "a:=b,a:=c"),
    ("remap", "a:=1b"),
]


@pytest.mark.parametrize(("name", "text"), WRONG, ids=[f"{n}={t[:12]!r}" for n, t in WRONG])
def test_anything_else_is_refused_by_name_with_what_came(name, text):
    with pytest.raises(ArgumentError, match=f"^{name}: ") as error:
        BringUp.from_texts({"use_sim_time": "true", name: text})
    assert text.strip()[:3] in str(error.value).replace("\\n", "\n")


def test_every_argument_reads_its_own_default_back():
    texts = {f.name: str(f.default) for f in fields(BringUp)}
    assert BringUp.from_texts(texts) == BringUp() == BringUp.from_texts({})


def test_the_home_folder_is_found_where_a_shell_leaves_it_to_us(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "model.safetensors").touch()
    args = BringUp.from_texts({"policy": "~/policy", "bags_dir": "~/bags"})
    assert args.policy == str(tmp_path / "policy") and args.bags_dir == str(tmp_path / "bags")


def test_a_misspelt_argument_is_refused_as_ros2_launch_would_ignore_it():
    for name in ("dryrun", "dry-run", "DRY_RUN", "dry_runn", "use_simtime", "ml-python", "remaps"):
        with pytest.raises(ArgumentError, match=f"^{name}: no such argument; expected"):
            check_names([name])
    # Whose launch file includes ours may have arguments of their own.
    check_names([f.name for f in fields(BringUp)] + ["robot_ip", "rviz", "ros_namespace", "model"])


@pytest.mark.parametrize(
    ("option", "text"),
    [("--seed", "abc"), ("--real-time-factor", "nan"), ("--device", "gpu"), ("--remap", "a")],
)
def test_the_command_line_has_the_same_parser(option, text):
    done = CliRunner().invoke(app, ["up", option, text])
    assert isinstance(done.exception, ArgumentError)
    assert str(done.exception).startswith(option[2:].replace("-", "_") + ": ")


def test_log_level_and_remapping_reach_every_node():
    args = BringUp.from_texts(
        {"log_level": "debug", "remap": "front/image_raw:=/cam/c, hil:a:=~/b"}
    )
    for process in processes(args):
        command = " ".join(process.command())
        assert "--log-level debug" in command
        assert "-r front/image_raw:=/cam/c -r hil:a:=~/b" in command


@pytest.mark.parametrize(
    ("arguments", "waits"),
    [({}, True), ({"policy": "none"}, False)],
)
def test_hil_waits_for_a_policy_only_where_one_acts(arguments, waits):
    nodes = {node.name: node for node in processes(BringUp.from_texts(arguments))}
    assert nodes["hil"].parameters.get("policy_required", False) is waits
    assert ("policy" in nodes) is (arguments.get("policy") != "none")


def test_a_judge_takes_the_policys_place_as_the_one_who_scores(tiny_policy, tmp_path):
    file = tmp_path / "thresholds.json"
    file.write_text("{}")
    texts = {"judge": str(tiny_policy), "calibration": str(file), "bags_dir": str(tmp_path)}
    nodes = {node.name: node for node in processes(BringUp.from_texts(texts))}
    assert nodes["judge"].module == "rewact_ros.nodes.judge" and nodes["judge"].heavy
    assert nodes["judge"].parameters["model"] == str(tiny_policy)
    assert nodes["policy"].parameters["actions_only"] is True
    assert nodes["supervisor"].parameters["policy"] == str(tiny_policy)
    for name in ("supervisor", "recorder"):
        assert nodes[name].parameters["calibration"] == str(file)
    del texts["calibration"]
    warning, *mends = judge_warnings(processes(BringUp.from_texts(texts)))
    assert "uncalibrated" in warning and f"rewact calibrate --policy {tiny_policy}" in mends[1]
    alone = {n.name: n for n in processes(BringUp.from_texts({**texts, "policy": "none"}))}
    assert "judge" in alone and "policy" not in alone
    usual = {n.name: n for n in processes(BringUp.from_texts({}))}
    assert "judge" not in usual and usual["policy"].parameters["actions_only"] is False
    with pytest.raises(ArgumentError, match="judge: no such checkpoint folder"):
        BringUp.from_texts({"judge": str(tmp_path / "nowhere")})


def test_a_table_of_tasks_reaches_every_node_that_reads_it(tiny_policy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calibration.json").write_text("{}")  # of nobody in the table
    file = tmp_path / "tasks.yaml"
    row = f"{{task: put*, policy: {tiny_policy}"
    file.write_text(f"tasks: [{row}}}]")
    texts = {"tasks": str(file), "bags_dir": str(tmp_path / "bags")}

    def nodes():
        return {node.name: node.parameters for node in processes(BringUp.from_texts(texts))}

    apart = nodes()
    for name in ("policy", "supervisor", "recorder"):
        assert apart[name]["tasks"] == str(file)
        assert "policy" not in apart[name] and "calibration" not in apart[name]
    assert apart["hil"]["policy_required"] is True and "judge" not in apart
    assert apart["policy"]["actions_only"] is False
    assert judge_warnings(processes(BringUp.from_texts(texts))) == []
    file.write_text(f"tasks: [{row}}}, {row.replace('put', 'sort')}, judge: {tiny_policy}}}]")
    judged = nodes()
    assert judged["judge"]["tasks"] == str(file) and judged["policy"]["actions_only"] is True
    warning, *mends = judge_warnings(processes(BringUp.from_texts(texts)))
    assert "uncalibrated" in warning and len(mends) == 2
    for name in ("policy", "judge"):
        with pytest.raises(ArgumentError, match=f"{name}: expected none beside tasks"):
            BringUp.from_texts({**texts, name: str(tiny_policy)})
    file.write_text("tasks: [{task: put*, policy: nowhere}]")
    with pytest.raises(ArgumentError, match=r"tasks.yaml.*'put\*': no such checkpoint folder"):
        BringUp.from_texts(texts)


def test_lerobots_driver_starts_beside_the_rest_and_not_beside_the_simulated_robot():
    file = PACKAGE.parent / "config" / "lerobot" / "so101.yaml"
    contract = PACKAGE.parent / "config" / "robots" / "so101.yaml"
    args = BringUp(contract=str(contract), lerobot_robot=str(file))
    nodes = {node.name: node for node in processes(args)}
    assert nodes["lerobot_robot"].parameters["robot_config"] == str(file)
    assert "sim" not in nodes and "lerobot" in nodes["lerobot_robot"].needs
    for more in ({"contract": str(contract), "sim": True}, {}):
        with pytest.raises(ArgumentError, match=r"^lerobot_robot: expected the contract"):
            BringUp(lerobot_robot=str(file), **more)


def test_a_path_with_quotes_reaches_the_node_whole(graph, tmp_path):
    import rclpy

    odd = str(tmp_path / 'a "b" \\ é.yaml')
    shutil.copy(VX300S, odd)
    hil = processes(BringUp(contract=odd))[0]
    context = rclpy.Context()
    rclpy.init(args=[*hil.command()[4:]], context=context)
    node = rclpy.create_node("hil", context=context)
    assert node.declare_parameter("contract", "").value == odd
    node.destroy_node()
    rclpy.shutdown(context=context)


# Restarts -----------------------------------------------------------------------------------------


def test_a_configuration_fault_ends_all_and_a_death_does_not():
    restarts = Restarts()
    assert restarts.end("hil", CONFIGURATION_FAULT, 0.0).startswith("hil: refuses its config")
    assert restarts.end("hil", CONFIGURATION_FAULT, 0.0, last="x: no") == "hil: x: no"
    assert restarts.end("hil", -9, 0.0) == "" and restarts.end("sim", 0, 0.0) == ""
    assert restarts.end("learner", 1, 0.0, respawn=False) == "learner: exit code 1"


def test_what_keeps_dying_is_not_started_for_ever():
    restarts = Restarts()
    for k in range(MAX_RESTARTS):
        assert restarts.end("hil", -11, float(k)) == ""
        assert restarts.end("sim", 1, float(k)) == ""  # each counts for itself
    died = f"hil died {MAX_RESTARTS + 1} times within a minute: SIGSEGV"
    assert restarts.end("hil", -11, 10.0) == died
    assert restarts.end("hil", -11, RESTART_WINDOW_S + 0.5) == ""  # the first has grown old


# The lock -----------------------------------------------------------------------------------------


@pytest.fixture
def locks(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    return tmp_path


def test_one_robot_per_domain_and_namespace(locks, monkeypatch):
    first = RobotLock("cell/left")
    for same in ("cell/left", "/cell/left", "cell/left/"):
        with pytest.raises(BringUpError, match="domain 7, namespace '/cell/left'"):
            RobotLock(same)
    others = [RobotLock("cell_left"), RobotLock("cell"), RobotLock("")]
    monkeypatch.setenv("ROS_DOMAIN_ID", "8")
    others.append(RobotLock("cell/left"))
    monkeypatch.setenv("ROS_DOMAIN_ID", "07")
    with pytest.raises(BringUpError, match="already running"):
        RobotLock("cell/left")
    first.release()
    others.append(RobotLock("cell/left"))
    for lock in others:
        lock.release()


def test_a_planted_link_or_pipe_is_refused_and_nothing_is_lost(locks):
    RobotLock("left").release()
    (file,) = locks.rglob("*.lock")
    precious = locks / "precious"
    precious.write_text("data")
    file.unlink()
    file.symlink_to(precious)
    with pytest.raises(BringUpError, match="cannot be locked"):
        RobotLock("left")
    assert precious.read_text() == "data"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(BringUpError, match="cannot be locked: is no plain file"):
        RobotLock("left")


# Interpreters -------------------------------------------------------------------------------------


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def stack(python: str = "") -> list[Process]:
    return processes(BringUp(ml_python=python))


def test_the_log_names_the_tree_that_each_interpreter_imports():
    (line,) = check_interpreters(stack())
    assert line.startswith("sim, hil, supervisor, policy: rewact_ros ")
    assert str(PACKAGE) in line and sys.executable in line


def test_an_interpreter_that_cannot_be_one_is_named_before_anything_starts(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    for python, words in (
        ("/nonexistent", "/nonexistent does not exist; expected an interpreter such as"),
        (str(plain), "plain is not executable"),
        (str(tmp_path), "is not executable"),
        (script(tmp_path / "ls", "echo no python here >&2; exit 3"), "as Python: no python here"),
        (script(tmp_path / "mute", "exit 0"), "as Python: it said nothing"),
        (script(tmp_path / "old", 'echo \'{"version": [3, 8, 1], "missing": []}\''), "got 3.8.1"),
    ):
        with pytest.raises(BringUpError, match="^ml_python: ") as error:
            check_interpreters(stack(python))
        assert words in str(error.value)


def test_an_interpreter_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("rewact_ros.stack.interpreters.PROBE_TIMEOUT_S", 0.2)
    slow = script(tmp_path / "slow", "exec sleep 30")
    with pytest.raises(BringUpError, match="did not answer within 0.2 s"):
        check_interpreters(stack(slow))


def test_what_a_node_needs_and_the_interpreter_lacks_is_named_with_the_mend(tmp_path, monkeypatch):
    bare = script(tmp_path / "bare", f'exec {sys.executable} -S -I "$@"')
    with pytest.raises(BringUpError, match=r"ml_python: sim needs .*mujoco.*, which .*bare lacks"):
        check_interpreters(stack(bare))
    # Beside a stock ROS without ml_python: its own interpreter has no PyTorch.
    monkeypatch.setattr("rewact_ros.stack.bringup.HEAVY", {"policy": ("no_such_torch",)})
    with pytest.raises(BringUpError, match="policy needs no_such_torch.*: set ml_python to an int"):
        check_interpreters(stack())
    monkeypatch.setattr("rewact_ros.stack.bringup.EVERY_NODE", ("rclpy", "no.such"))
    with pytest.raises(BringUpError, match="needs no.such.*: install it there, as scripts/setup"):
        check_interpreters(stack()[1:2])


def test_two_versions_of_the_package_are_refused_in_one_bring_up(tmp_path):
    copy = tmp_path / "site" / "rewact_ros"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    other = script(
        tmp_path / "other",
        f'PYTHONPATH={copy.parent} exec {sys.executable} "$@"',
    )
    # The same version in another place, as `colcon build` installs it, is no other version.
    lines = check_interpreters(stack(other))
    assert str(copy) in lines[0] and str(PACKAGE) in lines[1]
    with (copy / "control" / "limits.py").open("a") as file:
        file.write("# later\n")
    with pytest.raises(BringUpError, match=r"two versions.*; control/limits.py differ") as error:
        check_interpreters(stack(other))
    assert str(copy) in str(error.value) and str(PACKAGE) in str(error.value)


def test_no_module_of_the_current_folder_takes_the_place_of_an_installed_one(tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    (sim, *_) = stack()
    environment = {**os.environ, **sim.environment}
    environment.pop(
        "PYTHONPATH", None
    )  # one that ends with a colon names the current folder itself
    code = [sim.python, "-c", "import numpy; print(numpy.__version__)"]
    done = subprocess.run(code, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Processes ----------------------------------------------------------------------------------------


def test_a_command_line_that_ros_cannot_read_is_a_configuration_fault():
    command = [sys.executable, "-m", "rewact_ros.nodes.hil", "--ros-args", "-r", "front:cam"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == CONFIGURATION_FAULT
    assert "error: Couldn't parse remap rule: '-r front:cam'" in done.stderr
    assert "Traceback" not in done.stderr
