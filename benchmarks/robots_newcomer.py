"""Bench topic `robots-newcomer`: from running drivers to a dry run by docs/own-robot.md alone.

The robot is a fake driver that no shipped contract describes: joints in another order with two that
nobody wants, a gripper on a topic of its own, two JPEG cameras at different rates. Each step is the
page's own command, in a process of its own. The demonstrations are written by this file in place of
`record` and `export`, whose time is the person's; the training is a few steps of a tiny network,
for its time is the task's. So the sum is what a newcomer waits for the tools, reads and types. What
the guesses of `contract init` want to be looked up comes on top; they are counted.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from robot_drivers import FakeDriver

from rewact_ros.cli.bench import Bench
from rewact_ros.contract import Contract, load_contract
from rewact_ros.msg import PolicyStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.share import share_dir
from rewact_ros.stack.domain import kept_environment, own_domain

# Of a person who reads with care and types slowly.
WORDS_PER_MINUTE, LETTERS_PER_MINUTE = 200, 150
LONGEST_S = 600.0
ARM = [f"joint_{i}" for i in range(1, 7)]
JPEG = "sensor_msgs/msg/CompressedImage"
DRIVER = {
    "joint_states": {
        "joint_states": ["gripper", "wheel_left", *reversed(ARM), "wheel_right"],
    },
    "joint_rate_hz": 50,
    "cameras": {
        "front": {"topic": "front/image_raw/compressed", "type": JPEG, "shape": [240, 320, 3]},
        "wrist": {"topic": "wrist/image_raw/compressed", "type": JPEG, "shape": [120, 160, 3],
                  "rate_hz": 15.0},
    },
    "controllers": [
        {"topic": "arm_controller/commands", "type": "std_msgs/msg/Float64MultiArray",
         "node": "arm_controller", "joints": ARM},
        {"topic": "gripper_controller/command", "type": "std_msgs/msg/Float64",
         "node": "gripper_controller", "joints": []},
    ],
}  # fmt: skip
POSE = {joint: 0.1 for joint in DRIVER["joint_states"]["joint_states"]}
_LIMIT = '<limit lower="-2.5" upper="2.5" velocity="1.5" effort="1"/>'
URDF = (
    '<robot name="newcomer">'
    + "".join(f'<joint name="{joint}" type="revolute">{_LIMIT}</joint>' for joint in ARM)
    + '<joint name="gripper" type="prismatic"><limit lower="0" upper="0.12" velocity="0.1" '
    'effort="1"/></joint></robot>'
)
TINY = ("chunk_size=10", "dim_model=32", "n_heads=2", "dim_feedforward=32", "n_encoder_layers=1",
        "n_decoder_layers=1", "image_size=[60,80]")  # fmt: skip


def run(bench: Bench) -> None:
    """Walk the path once."""
    with _alone(), tempfile.TemporaryDirectory() as folder, _driver():
        steps = walk(Path(folder))
        guesses = (Path(folder) / "robot.yaml").read_text().count("guess:")
    for name, (words, seconds) in steps.items():
        print(f"    {seconds:6.1f} s  {' '.join(words)}", flush=True)
        bench.add(f"newcomer {name}", seconds, "s")
    page = (share_dir() / "docs" / "own-robot.md").read_text().split("\n## 6")[0]
    words_read = len(re.findall(r"\S+", page))
    typed = [word for words, _ in steps.values() for word in words]
    by_hand = sum(joint in re.split(r"[=,\s]", word) for word in typed for joint in POSE)
    waiting_s = sum(seconds for _, seconds in steps.values())
    reading_s = 60 * words_read / WORDS_PER_MINUTE
    # The person types short names of files, and no sizes of a tiny network.
    short = [Path(word).name for word in typed if word != "--policy" and word not in TINY]
    typing_s = 60 * len(" ".join(short)) / LETTERS_PER_MINUTE
    bench.settings.update(
        words_per_minute=WORDS_PER_MINUTE,
        letters_per_minute=LETTERS_PER_MINUTE,
        training_steps=20,
    )
    bench.add("newcomer commands", len(steps), "commands")
    bench.add("newcomer joint names typed by hand", by_hand, "names", goal="<= 0")
    bench.add("newcomer words read", words_read, "words")
    bench.add("newcomer waits for commands", waiting_s, "s")
    bench.add("newcomer types", len(" ".join(short)), "letters")
    bench.add("newcomer guesses to settle", guesses, "lines")
    whole_s = waiting_s + reading_s + typing_s
    bench.add("newcomer from drivers to dry run", whole_s / 60, "min", goal="<= 10")


def walk(folder: Path) -> dict[str, tuple[list[str], float]]:
    """Step → its command and its seconds; stops at a command that fails."""
    contract, data, policy = (str(folder / name) for name in ("robot.yaml", "mine", "model"))
    steps: dict[str, tuple[list[str], float]] = {}

    def step(name: str, *words: str) -> None:
        start_s = time.monotonic()
        done = subprocess.run(
            _command(words), capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: \n{done.stdout}{done.stderr[-1500:]}")
        steps[name] = ["rewact", *words], time.monotonic() - start_s

    step("contract init", "contract", "init", "--graph", "--out", contract)
    step("contract check", "contract", "check", contract)
    step("doctor", "doctor", "--contract", contract)
    demonstrations(load_contract(contract), Path(data))
    sizes = [word for setting in TINY for word in ("--policy", setting)]
    step("train", "train", "--dataset", data, "--contract", contract, "--out",
         str(folder / "run"), "--export", policy, "--steps", "20", "--val-every", "20",
         "--save-every", "20", "--batch-size", "8", *sizes)  # fmt: skip
    # As the page says: not where the robot's drivers are.
    with kept_environment("ROS_DOMAIN_ID"):
        os.environ["ROS_DOMAIN_ID"] = str(int(os.environ["ROS_DOMAIN_ID"]) + 1)
        step("replay", "replay", "--dataset", data, "--episodes", "0:1", "--contract", contract,
             "--policy", policy)  # fmt: skip
    words = ["up", "--contract", contract, "--policy", policy, "--dry-run"]
    start_s = time.monotonic()
    with _brought_up(words, folder / "up.log"):
        _until_ready(folder / "up.log")
        steps["dry run"] = ["rewact", *words], time.monotonic() - start_s
    return steps


def demonstrations(contract: Contract, root: Path, episodes: int = 3, frames: int = 30) -> None:
    """What `rewact export` would have made of a few recordings."""
    features = contract.dataset_features()
    features["next.reward"] = {"dtype": "float32", "shape": (1,), "names": None}
    made = LeRobotDataset.create(
        "local/mine",
        round(contract.rate_hz),
        features,
        root=root,
        rgb_encoder=RGBEncoderConfig(vcodec="h264"),
    )
    random = np.random.default_rng(0)
    for _ in range(episodes):
        for k in range(frames):
            state = np.full(len(contract.state_names), 0.1 + 0.001 * k, np.float32)
            pictures = {
                camera.key: random.integers(0, 255, camera.shape, np.uint8)
                for camera in contract.cameras
            }
            made.add_frame(
                {
                    "observation.state": state,
                    "action": np.full(len(contract.action_names), 0.1 + 0.001 * k, np.float32),
                    "next.reward": np.array([k / (frames - 1)], np.float32),
                    "task": "my task",
                    **pictures,
                }
            )
        made.save_episode()
    made.finalize()


def _command(words: tuple[str, ...] | list[str]) -> list[str]:
    return [sys.executable, "-m", "rewact_ros.cli", *words]


@contextmanager
def _alone() -> Iterator[None]:
    """A domain of its own: nobody else's nodes are found in it."""
    with kept_environment("ROS_DOMAIN_ID"):
        os.environ.pop("ROS_DOMAIN_ID", None)
        own_domain().release()  # the bring-up locks it
        yield


@contextmanager
def _driver() -> Iterator[None]:
    """The robot's drivers, running."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    driver = FakeDriver("newcomer", context, about=DRIVER, urdf=URDF, pose=POSE)
    try:
        yield
    finally:
        driver.close()
        rclpy.shutdown(context=context)


@contextmanager
def _brought_up(words: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as out:
        process = subprocess.Popen(_command(words), stdout=out, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _until_ready(log: Path) -> None:
    """Wait until the policy has fresh observations and gives chunks; raises RuntimeError."""
    context, ready = rclpy.Context(), threading.Event()
    rclpy.init(args=[], context=context)
    node = Node("newcomer", context=context, use_global_arguments=False)

    def heard(status: PolicyStatus) -> None:
        if status.ready:
            ready.set()

    node.create_subscription(PolicyStatus, names.POLICY_STATUS, heard, names.COMMAND)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    end_s = time.monotonic() + LONGEST_S
    try:
        while not ready.is_set():
            executor.spin_once(timeout_sec=0.2)
            if time.monotonic() > end_s:
                raise RuntimeError(f"rewact up: not ready after {LONGEST_S:g} s\n" + _tail(log))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def _tail(log: Path) -> str:
    return log.read_text()[-3000:]
