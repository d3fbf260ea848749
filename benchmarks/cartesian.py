"""Bench topic `cartesian`: what may never go out of hil for a pose, a twist and a gripper's action.

All but the gripper runs in process, on a clock of its own: the machine's load makes no difference.
The gripper has a real action server, where control_msgs is installed.
"""

import itertools
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros import strict_yaml
from rewact_ros.bench.figures import Bench
from rewact_ros.contract import Contract, parse_contract
from rewact_ros.contract.frames import NANO
from rewact_ros.control.chunks import Chunk
from rewact_ros.control.gates import PartGates
from rewact_ros.control.modes import Mode
from rewact_ros.control.path import CommandPath
from rewact_ros.control.pose_input import PoseInput
from rewact_ros.control.space import Space
from rewact_ros.control.watch import Now
from rewact_ros.stack.bringup import default_contract

FloatArray = NDArray[np.float64]
HOME = np.array([0.4, 0.0, 0.3, 0.0, 3.0, 0.0, 1.0])
POSE = Space([0])
RATE_HZ, DT_S = 100.0, 0.01
LINEAR, ANGULAR = slice(0, 3), slice(3, 6)
# What rounding makes of a step divided by the square of a tick.
SLACK = 1e-5


def run(bench: Bench) -> None:
    """Fuzz of poses and twists, changes of hands, and a gripper's goals."""
    chunks, trials = (20_000, 20) if bench.quick else (1_000_000, 200)
    bench.settings.update(chunks=chunks, trials=trials, seed=0, command_rate_hz=RATE_HZ)
    done, sent = fuzz_poses(chunks)
    for name, bad in unsafe_poses(sent).items():
        bench.add(f"fuzzed poses, {name}", bad, "commands", goal="0", n=len(sent))
    bench.add("fuzzed poses, chunks", done, "chunks")
    twists, arms = fuzz_twists(chunks // 10)
    for name, bad in unsafe_twists(twists, arms).items():
        bench.add(f"fuzzed twists, {name}", bad, "commands", goal="0", n=len(twists))
    rng = np.random.default_rng(0)
    shares = np.array([handover(rng) for _ in range(trials)])  # trial, moment, kind
    for (i, moment), (j, kind) in itertools.product(
        enumerate(("takeover", "release")), enumerate(("velocity", "acceleration"))
    ):
        worst, goal = float(shares[:, i, j].max()), ("<= 0.58", "<= 0.72")[j]
        bench.add(f"{moment}, largest {kind}", worst, "of the limit", goal=goal, n=trials)
    sent_goals = gripper_goals(20 if bench.quick else 200)
    if sent_goals is None:
        print("  gripper: control_msgs is not installed")
        return
    asked, got = sent_goals
    pairs = itertools.zip_longest(asked, got)
    bench.add("gripper goals lost or doubled", sum(a != b for a, b in pairs), "goals", goal="0",
              n=len(asked))  # fmt: skip


def contract_of(twist: bool = False, **gripper: Any) -> Contract:
    """A robot that takes a pose or twists, and a gripper."""
    data: dict[str, Any] = strict_yaml.load(default_contract())
    del data["kinematics"]  # of joints, which this one does not take
    kind = "TwistStamped" if twist else "PoseStamped"
    state, age = data["observation.state"], {"max_age_s": 0.5}
    data["observation.state"] = [
        {"name": "ee", "topic": "tcp_pose", "type": "geometry_msgs/msg/PoseStamped", **age},
        {**state, "joints": ["gripper"], "unit": "normalized", **age},
    ]
    arm = {
        "name": "ee",
        "topic": "servo",
        "type": f"geometry_msgs/msg/{kind}",
        "command": "twist" if twist else "pose",
        "frame_id": "base_link",
        "command_rate_hz": RATE_HZ,
        "workspace": {"x": [0.2, 0.7], "y": [-0.4, 0.4], "z": [0.02, 0.6]},
        "linear": {"velocity": 1.0, "acceleration": 9.0},
        "angular": {"velocity": 2.5, "acceleration": 17.0},
        "max_start_jump": {"position": 0.1, "angle": 0.5},
        **({"controller_timeout_s": 0.1} if twist else {}),
    }
    whole = data["action"]
    hand = {**whole, "topic": "gripper", "joints": ["gripper"], "unit": "normalized"}
    for key in ("position", "velocity", "acceleration", "max_start_jump"):
        hand[key] = whole[key]["gripper"]
    hand |= {"type": "std_msgs/msg/Float64", **gripper}
    data["action"] = [arm, hand]
    data["reset"] = {"pose": HOME.tolist(), "duration_s": 1.0}
    deadman = {"topic": "joy", "button": 0}
    hand_pose = {"topic": "hand", "type": "geometry_msgs/msg/PoseStamped", "deadman": deadman}
    data["teleop"] = {"hand": hand_pose}
    return parse_contract(data)


# Fuzz ----------------------------------------------------------------------------------------


class Fuzz:
    """Chunks of all kinds into a command path: 20 of 8 steps before every tick.

    Values from the limits' size to 1e9, NaN and Inf, stamps and epochs mostly right. A person
    resumes after every stop.
    """

    def __init__(self, contract: Contract) -> None:
        self.path, self.rng = CommandPath(contract), np.random.default_rng(0)
        self.done = self.tick = 0
        self._start_ns = time.time_ns()

    def step(self, measured: FloatArray) -> FloatArray | None:
        """One tick; the command (A,)."""
        self.tick += 1
        path, rng, t_s = self.path, self.rng, self.tick * DT_S
        now = Now(t_s, t_s, self._start_ns + round(t_s * NANO))
        path.joints.take(measured, t_s)
        path.heartbeat.take("", now)
        path.on_request(Mode.POLICY, "fuzz", 1, now)
        path.arm(now)
        path.resume()
        size = 10.0 ** rng.integers(-3, 10, (20, 1, 1))
        values = HOME + rng.standard_normal((20, 8, len(HOME))) * size
        values[rng.random(values.shape) < 0.002] = np.nan
        values[rng.random(values.shape) < 0.001] = -np.inf
        ages = np.where(rng.random(20) < 0.9, rng.uniform(0, 0.009, 20), rng.normal(0, 10, 20))
        for positions, age_s, wrong in zip(
            values, np.sort(ages)[::-1], rng.random(20), strict=True
        ):
            epoch, stamp_ns = path.epoch + (wrong > 0.95), now.ros_ns - int(age_s * NANO)
            path.on_chunk(Chunk(stamp_ns, epoch, positions[: 1 + int(8 * wrong)], 0.05), now)
        self.done += 20
        return path.step(now)


def fuzz_poses(count: int) -> tuple[int, FloatArray]:
    """Chunks given, and every command (N, 7); the robot does what is sent."""
    fuzz, measured, sent = Fuzz(contract_of()), HOME, []
    while fuzz.done < count:
        command = fuzz.step(measured)
        if command is not None:
            sent.append(command)
            measured = command
    return fuzz.done, np.stack(sent)


def fuzz_twists(count: int) -> tuple[FloatArray, FloatArray]:
    """Every twist (N, 6), and where the arm (N, 3) came to by them, 20 ms later."""
    contract = contract_of(twist=True)
    fuzz, measured = Fuzz(contract), HOME.copy()
    assert isinstance(fuzz.path.gate, PartGates)
    gate, late = fuzz.path.gate.twists["ee"], [np.zeros(6)] * 2
    twists, places = [], []
    while fuzz.done < count:
        fuzz.step(measured)
        twists.append(gate.twist)
        late.append(gate.twist)
        measured = measured.copy()
        measured[:6] = POSE.plus(measured[:6], late.pop(0) * DT_S)
        places.append(measured[:3])
    return np.stack(twists), np.stack(places)


def lengths(values: FloatArray) -> FloatArray:
    """(N, 2) linear and angular lengths of (N, 6)."""
    return np.stack([np.linalg.norm(values[:, part], axis=1) for part in (LINEAR, ANGULAR)], 1)


def unsafe_poses(sent: FloatArray) -> dict[str, int]:
    """Commands that are not finite, out of their box or range, too fast or too sudden."""
    steps = [POSE.minus(b[:6], a[:6]) for a, b in itertools.pairwise(sent)]
    speed, change = _speeds(np.stack(steps) / DT_S)
    limits = contract_of().limits
    inside = (sent >= limits.low - 1e-12) & (sent <= limits.high + 1e-12)
    hand = np.abs(np.diff(sent[:, 6])) / DT_S > limits.velocity[6] + 1e-6
    return {
        "not finite": int((~np.isfinite(sent)).any(axis=1).sum()),
        "out of workspace or joint limits": int((~inside[:, [0, 1, 2, 6]]).any(axis=1).sum()),
        "too fast": int((speed | hand).sum()),
        "too sudden": int(change.sum()),
    }


def unsafe_twists(twists: FloatArray, places: FloatArray) -> dict[str, int]:
    """As `unsafe_poses`; the arm may be over a wall by what its delay makes."""
    limits = contract_of(twist=True).limits
    speed, change = _speeds(twists)
    out = (places < limits.low[:3] - 0.005) | (places > limits.high[:3] + 0.005)
    return {
        "not finite": int((~np.isfinite(twists)).any(axis=1).sum()),
        "too fast": int(speed.sum()),
        "too sudden": int(change.sum()),
        "arm more than 5 mm out of the workspace": int(out.any(axis=1).sum()),
    }


def _speeds(velocity: FloatArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which velocities (N, 6) are beyond the limits, and which changes between them."""
    limits = contract_of().limits
    top, most = limits.velocity[[0, 3]], limits.acceleration[[0, 3]]
    change = np.diff(velocity, axis=0) / DT_S
    fast = (lengths(velocity) > top * (1 + SLACK) + 1e-9).any(axis=1)
    return fast, (lengths(change) > most * (1 + SLACK) + 1e-5).any(axis=1)


# Changes of hands ----------------------------------------------------------------------------


def handover(rng: np.random.Generator) -> FloatArray:
    """A person takes over and lets go at random moments of random motions.

    Returns:
        (2, 2) at takeover and release: largest velocity and acceleration, as shares of limits. The
        person and the policy alone stay below half of them.
    """
    path = CommandPath(contract_of())
    device = path.human.inputs["hand"]
    assert isinstance(device, PoseInput)
    phases, rates = rng.uniform(0, 2 * np.pi, (2, 6)), rng.uniform(1.0, 2.0, (2, 6))
    amplitude = np.array([0.01] * 3 + [0.02] * 3)
    far = np.array([*rng.uniform(-2, 2, 3), *rng.uniform(-1, 1, 3), 0.0])

    def pose(who: int, t_s: float) -> FloatArray:
        way = amplitude * np.sin(phases[who] + rates[who] * t_s)
        return POSE.plus(HOME + who * far, np.array([*way, 0.0]))

    take_s = rng.uniform(1.0, 2.0)
    give_s = take_s + rng.uniform(0.8, 2.0)
    measured, sent, modes = pose(0, 0.0), [], []
    for tick in range(round((give_s + 1.5) / DT_S)):
        t_s = tick * DT_S
        now = Now(t_s, t_s, NANO + round(t_s * NANO))
        path.joints.take(measured, t_s)
        path.heartbeat.take("", now)
        path.on_request(Mode.POLICY, "bench", 1, now)
        path.arm(now)
        device.on_deadman(take_s <= t_s < give_s, t_s)
        if tick % 2 == 0:
            device.on_pose(pose(1, t_s)[:6], t_s)
        if tick % 5 == 0:
            rows = np.stack([pose(0, t_s + k * 0.05) for k in range(20)])
            path.on_chunk(Chunk(now.ros_ns, path.epoch, rows, 0.05), now)
        command = path.step(now)
        if path.mode is Mode.HOLD:
            path.resume()
        measured = measured if command is None else command
        sent.append(measured)
        modes.append(path.mode)
    assert Mode.HUMAN in modes and path.mode is Mode.POLICY, path.modes.reason
    return np.array([_shares(sent, moment_s) for moment_s in (take_s, give_s)])


def _shares(sent: list[FloatArray], moment_s: float) -> list[float]:
    first = int(moment_s / DT_S) - 3
    around = sent[first : first + round(0.4 / DT_S)]
    steps = [POSE.minus(b[:6], a[:6]) for a, b in itertools.pairwise(around)]
    velocity, limits = np.stack(steps) / DT_S, contract_of().limits
    change = np.diff(velocity, axis=0) / DT_S
    return [
        float((lengths(velocity) / limits.velocity[[0, 3]]).max()),
        float((lengths(change) / limits.acceleration[[0, 3]]).max()),
    ]


# A gripper's action --------------------------------------------------------------------------


def gripper_goals(count: int) -> tuple[list[float], list[float]] | None:
    """Open and closed in turn, with noise around the command: (asked, got by the server).

    None where control_msgs is not installed.
    """
    try:
        from control_msgs.action import GripperCommand
    except ImportError:
        return None
    import rclpy
    from rclpy.action import ActionServer
    from rclpy.executors import SingleThreadedExecutor

    from rewact_ros.ros.goals import GoalSender
    from rewact_ros.ros.loop import poll_action
    from rewact_ros.stack.domain import own_domain

    lock, got = own_domain(), []
    rclpy.init()
    server, client = rclpy.create_node("gripper"), rclpy.create_node("hil")

    def execute(goal: Any) -> Any:
        got.append(goal.request.command.position)
        goal.succeed()
        return GripperCommand.Result()

    ActionServer(server, GripperCommand, "gripper", execute)
    executor = SingleThreadedExecutor()
    executor.add_node(server)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    way = {"open": 1.0, "closed": 0.0, "min_interval_s": 0.05}
    part = contract_of(type="control_msgs/action/GripperCommand", binary=way).action[1]
    sender, rng = GoalSender(client, part, print), np.random.default_rng(0)
    asked = [float(k % 2) for k in range(count)]
    while sender.absent():
        time.sleep(0.01)
    for wanted in asked:
        end_s = time.monotonic() + 0.12
        while time.monotonic() < end_s:  # as a policy says it: about there, and never the same
            sender.offer(wanted + rng.normal(0, 0.15), time.monotonic())
            poll_action(sender._client)
            time.sleep(0.01)
    time.sleep(0.5)
    sender.close()
    executor.shutdown()
    thread.join()
    rclpy.shutdown()
    lock.release()
    return asked, got
