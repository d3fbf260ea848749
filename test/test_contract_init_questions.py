"""What `rewact contract init` cannot know is asked on a terminal, and has an option without one."""

import os
import pty
import subprocess
import sys
import threading

import pytest
from test_contract_init_graph import ARM, CAMERAS, FLOATS, URDF, info

from rewact_ros.cli import contract_init
from rewact_ros.cli.contract_init import ask, find, write
from rewact_ros.contract import ContractError, load_contract
from rewact_ros.contract.choices import Choices, commands, pairs
from rewact_ros.contract.found import CameraStream, CommandStream, Found, JointStream, ValueStream
from rewact_ros.contract.questions import open_questions
from rewact_ros.contract.urdf import read_urdf

JPEG = "sensor_msgs/msg/CompressedImage"
POSE_TYPE = "geometry_msgs/msg/PoseStamped"
POSE = tuple(f"ee.{a}" for a in ("x", "y", "z", "wx", "wy", "wz"))


def ambiguous(tmp_path) -> Found:
    """A robot with two of everything, and a data set that names none of them."""
    state = (*ARM, *POSE)
    found = find(False, False, None, info(tmp_path / "data", state, ARM), None, None)
    found.joints += [
        JointStream(topic, ARM, 50.0, f"graph: {topic}") for topic in ("a/joints", "b/joints")
    ]
    found.cameras += [
        CameraStream(each["topic"], JPEG, (48, 64, 3), 30.0, "graph") for each in CAMERAS.values()
    ]
    found.values += [
        ValueStream(topic, POSE_TYPE, 50.0, f"graph: {topic}", "base") for topic in ("p", "q")
    ]
    found.commands += [
        CommandStream(f"{node}/commands", FLOATS, ARM, "position", "graph", f"/{node}")
        for node in ("one", "two")
    ]
    return found


def test_every_open_choice_is_a_question_whose_option_settles_it(tmp_path):
    found = ambiguous(tmp_path)
    options = {q.option: q for q in open_questions(found, Choices())}
    assert list(options) == [
        "--robot", "--state", "--value ee", "--camera top", "--camera side", "--command",
    ]  # fmt: skip
    assert options["--camera top"].candidates == ("cam_a/compressed", "cam_b/compressed")
    choices = Choices(
        robot="it",
        cameras=pairs("--camera", ["top=cam_b/compressed", "side=cam_a/compressed"]),
        values=pairs("--value", ["ee=q"]),
        states=("b/joints",),
        commands=commands(["two/commands"]),
    )
    assert open_questions(found, choices) == []
    write(found, tmp_path / "robot.yaml", choices)
    made = load_contract(tmp_path / "robot.yaml")
    assert made.robot == "it" and [p.topic for p in made.state] == ["b/joints", "q"]
    assert [c.topic for c in made.cameras] == ["cam_b/compressed", "cam_a/compressed"]
    assert [p.topic for p in made.action] == ["two/commands"]


def test_without_a_data_set_the_rate_is_asked_and_joints_are_given_by_topic(tmp_path):
    found = read_urdf(URDF, "arm.urdf")
    found.joints.append(JointStream("joints", ARM, 50.0, "graph: joints"))
    found.commands.append(CommandStream("cmd", FLOATS, (), "position", "graph", "/driver"))
    (rate,) = open_questions(found, Choices())
    assert rate.option == "--rate-hz" and rate.default == "30"
    write(found, tmp_path / "a.yaml", Choices(rate_hz=10, commands=commands(["cmd=elbow"])))
    made = load_contract(tmp_path / "a.yaml")
    assert made.rate_hz == 10 and made.action[0].joints == ("elbow",)
    assert made.state_names == ("elbow",)


def test_a_gripper_that_does_not_say_its_joint_is_told_by_its_words(tmp_path):
    found = read_urdf(URDF, "arm.urdf")
    joints = ("wheel", "gripper_slide", "mirror", *ARM)
    found.joints.append(JointStream("joints", joints, 50.0, "graph: joints"))
    found.commands += [
        CommandStream("arm/commands", FLOATS, ARM, "position", "graph", "/arm"),
        CommandStream("hand/gripper", "std_msgs/msg/Float64", (), "position", "graph", "/hand"),
        CommandStream("light/level", "std_msgs/msg/Float64", (), "position", "graph", "/light"),
    ]
    write(found, tmp_path / "robot.yaml")
    made = load_contract(tmp_path / "robot.yaml")
    assert made.action_names == made.state_names == (*ARM, "gripper_slide")
    assert "guess: graph; its words tell the joint" in (tmp_path / "robot.yaml").read_text()


def test_a_name_that_is_like_a_joint_is_a_guess_until_it_is_given(tmp_path):
    names = ("waist.pos", "elbow.pos")
    found = find(False, False, None, info(tmp_path / "data", names, names, ()), None, None)
    found.joints.append(JointStream("joints", ("arm_waist_joint", "spare", "elbow"), 50.0, "graph"))
    (_, joint) = open_questions(found, Choices())
    assert joint.option == "--joint waist.pos"
    assert joint.candidates == ("arm_waist_joint", "spare")
    written = write(found, tmp_path / "a.yaml")
    assert "joints" in written.guesses
    assert load_contract(tmp_path / "a.yaml").state[0].drivers == ("arm_waist_joint", "elbow")
    write(found, tmp_path / "b.yaml", Choices(joints={"waist.pos": "spare"}))
    assert load_contract(tmp_path / "b.yaml").state[0].drivers == ("spare", "elbow")


@pytest.mark.parametrize(
    ("texts", "words"),
    [(["front"], "expected NAME=VALUE, got 'front'"), (["a=b", "a=c"], "expected a once, got it")],
)
def test_an_option_that_is_no_pair_is_refused(texts, words):
    with pytest.raises(ContractError, match=f"--camera: {words}"):
        pairs("--camera", texts)


def test_an_empty_answer_takes_what_counts_without_a_terminal(tmp_path, monkeypatch):
    found = ambiguous(tmp_path)
    monkeypatch.setattr(contract_init, "_answer", lambda question: question.default)
    write(found, tmp_path / "asked.yaml", ask(found, Choices()))
    write(found, tmp_path / "unasked.yaml")
    asked, unasked = (
        load_contract(tmp_path / "asked.yaml"),
        load_contract(tmp_path / "unasked.yaml"),
    )
    assert asked == unasked


def test_on_a_terminal_the_candidates_are_listed_and_a_number_chooses(tmp_path):
    data = info(tmp_path / "data", ARM, ARM, ())
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(URDF.replace(' name="newarm"', ""))
    out = tmp_path / "robot.yaml"
    words = ["contract", "init", "--out", str(out), "--dataset", str(data), "--urdf", str(urdf)]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "rewact_ros.cli", *words],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    said = bytearray()

    def read():
        try:
            while piece := os.read(ours, 4096):
                said.extend(piece)
                if b"(--robot)" in said and b"typed" not in said:
                    said.extend(b"typed")
                    os.write(ours, b"asked_arm\n")
        except OSError:
            pass  # the terminal is gone with the process

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(300) == 0, said.decode()
    reader.join(10)
    os.close(ours)
    assert b"Name of the robot (--robot) [my_robot]:" in said
    assert load_contract(out).robot == "asked_arm"
