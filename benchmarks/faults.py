"""Fault injection on real processes, measured on the wire: every fault must end in a held arm."""

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from rosgraph_msgs.msg import Clock

from rewact_ros import strict_yaml
from rewact_ros.bench.figures import Bench
from rewact_ros.contract import Contract, load_contract
from rewact_ros.contract.frames import NANO
from rewact_ros.control.chunks import Chunk
from rewact_ros.control.modes import Mode
from rewact_ros.control.path import CommandPath
from rewact_ros.control.watch import Now
from rewact_ros.msg import ControlStatus
from rewact_ros.ros.convert import to_stamp
from rewact_ros.stack.bringup import default_contract, default_policy
from rewact_ros.stack.rig import Rig
from rewact_ros.stack.rig_stack import Setup, memory_mb, robot

BEAT_S = 1.0 / 30.0  # default heartbeat_hz of the policy
# Long enough to brake from any speed of the rig's motion and to see that nothing follows.
REST_S = 0.4
KILLS_PER_BRING_UP = 4


def run(bench: Bench) -> None:
    """Every row of the fault table; `--quick` has few trials."""
    few, setup = bench.quick, Setup(default_contract(), policy=default_policy())
    contract = load_contract(setup.contract)
    bench.settings.update(policy="models/vx300s_pick_place", seed=0)
    # Every second trial kills the policy; the others stop it.
    times = in_batches(policy_silenced, setup, 1 if few else 50, 2 * KILLS_PER_BRING_UP)
    add_times(bench, "policy_silenced_to_hold", times, 150)
    kills = in_batches(hil_killed, setup, 2 if few else 10, KILLS_PER_BRING_UP)
    add_times(bench, "hil_killed_last_setpoint", [late for late, _ in kills], 20)
    armed = sum(not disarmed for _, disarmed in kills)
    bench.add("hil_killed_not_disarmed", armed, "trials", goal="0", n=len(kills))
    times = in_batches(supervisor_killed, setup, 1 if few else 10, KILLS_PER_BRING_UP)
    add_times(bench, "supervisor_killed_to_hold", times, 500)
    for fault, times in camera_faults(setup, 1 if few else 5).items():
        limit = 1000 if fault == "frozen" else 1e3 * contract.cameras[0].max_age_s + 100
        add_times(bench, f"camera_{fault}_to_hold", times, limit)
    joint_times, holds = joint_faults(setup, 1 if few else 5)
    for fault, times in joint_times.items():
        add_times(bench, f"joints_{fault}_to_hold", times, 1e3 * contract.state[0].max_age_s + 20)
    bench.add("joints_permuted_holds", holds, "holds", goal="0")
    held = arm_held_back(setup, 1 if few else 10)
    add_times(bench, "arm_held_back_to_fault", [to_fault for to_fault, _ in held], 600)
    late = sum(sent for _, sent in held)
    bench.add("arm_held_back_commands_afterwards", late, "commands", goal="0", n=len(held))
    chunks, unsafe = bad_chunks_on_the_wire(setup, 2.0 if few else 30.0)
    bench.add("bad_chunks_unsafe_commands", unsafe, "commands", goal="0", n=chunks)
    chunks, commands, unsafe = fuzzed_chunks(20_000 if few else 1_000_000)
    bench.add("fuzzed_chunks_unsafe_commands", unsafe, "commands", goal="0", n=chunks)
    bench.add("fuzzed_chunks_commands", commands, "commands")
    for jump, ticks in clock_jumps(setup, 1 if few else 3).items():
        low, high = min(ticks), max(ticks)
        name = f"clock_{jump}_ticks_to_hold"
        bench.add(name, high, "ticks", goal="≤ 1", n=len(ticks), low=low, high=high)
    growth_mb, error = flood(setup, 5.0 if few else 60.0)
    bench.add("flood_memory_growth", growth_mb, "MB", goal="≤ 50")
    bench.add("flood_loop_error", 100 * error, "%", goal="< 5")
    crossed, seen = two_robots(setup, 2.0 if few else 20.0)
    bench.add("two_robots_crossed_messages", crossed, "messages", goal="0", n=seen)


def add_times(bench: Bench, name: str, times_ms: list[float], limit_ms: float) -> None:
    """Record the worst of several trials, with the spread."""
    bench.add(
        name,
        max(times_ms),
        "ms, worst",
        goal=f"≤ {limit_ms:g}",
        n=len(times_ms),
        low=min(times_ms),
        high=max(times_ms),
    )


# Processes that die --------------------------------------------------------------------------


def in_batches(row: Callable, setup: Setup, trials: int, batch: int) -> list:
    """Trials of a row over several bring-ups: one gives a node up that dies too often a minute."""
    firsts = range(0, trials, batch)
    return [time for first in firsts for time in row(setup, min(batch, trials - first), first)]


def policy_silenced(setup: Setup, trials: int, seed: int = 0) -> list[float]:
    """SIGSTOP and `kill -9` of the policy in turn: ms from its first missed heartbeat to HOLD.

    Raises AssertionError where the arm moves on after braking, or again without a resume.
    """
    rng, times = random.Random(seed), []
    with robot(setup, ("joints", "cameras", "supervisor"), ("hil", "policy")) as bot:
        rig = bot.rig
        for trial in range(trials):
            rig.wait_for_policy()
            rig.run_policy(moving=False)
            rig.pause(rng.uniform(0.3, 1.0))
            pid = bot.runner.pid("policy")
            kill = trial % 2 == 1
            os.kill(pid, signal.SIGKILL if kill else signal.SIGSTOP)
            fault_s = time.monotonic()
            hold_s = rig.wait_for_mode(ControlStatus.HOLD, fault_s, 5.0)
            # None is missed before the fault, even where the rig did not hear the last ones.
            missed_s = max(rig.heartbeats[-1][0] + BEAT_S, fault_s)
            times.append(1e3 * (hold_s - missed_s))
            rig.pause(REST_S)
            held = rig.wire[-1][1]
            if not kill:
                os.kill(pid, signal.SIGCONT)
            rig.wait_for_policy()
            rig.pause(REST_S)
            assert rig.status.mode == ControlStatus.HOLD, "moved again without a resume"
            assert np.array_equal(rig.wire[-1][1], held), "the arm did not stay where it stopped"
    return times


def hil_killed(setup: Setup, trials: int, seed: int = 0) -> list[tuple[float, bool]]:
    """`kill -9` of hil in motion: ms to the last setpoint, and whether it came back DISARMED."""
    results = []
    with robot(setup, ("joints", "policy", "supervisor"), ("hil",)) as bot:
        rig = bot.rig
        for _ in range(trials):
            rig.run_policy()
            rig.pause(0.2)
            killed_s = time.monotonic()
            os.kill(bot.runner.pid("hil"), signal.SIGKILL)
            back_s = rig.wait_for_mode(ControlStatus.DISARMED, killed_s, 30.0)
            rig.pause(REST_S)
            after = [t for t, _ in rig.wire if t > killed_s]
            late_ms = 1e3 * (max(after) - killed_s) if after else 0.0
            modes = {m.mode for t, m in rig.statuses if t > back_s}
            results.append((late_ms, modes <= {ControlStatus.DISARMED}))
    return results


def supervisor_killed(setup: Setup, trials: int, seed: int = 0) -> list[float]:
    """`kill -9` of a real supervisor while its task moves the arm: ms from the kill to HOLD."""
    from rewact_ros.action import ExecuteTask

    times = []
    with robot(setup, ("joints", "policy"), ("hil", "supervisor")) as bot:
        rig = bot.rig
        for _ in range(trials):
            rig.arm()
            rig.send_goal(ExecuteTask.Goal(task="fault test", timeout=60.0))
            rig.wait_for_mode(ControlStatus.POLICY, time.monotonic(), 30.0)
            rig.pause(0.5)
            killed_s = time.monotonic()
            os.kill(bot.runner.pid("supervisor"), signal.SIGKILL)
            hold_s = rig.wait_for_mode(ControlStatus.HOLD, killed_s, 5.0)
            times.append(1e3 * (hold_s - killed_s))
            rig.pause(1.0)
            assert rig.status.mode == ControlStatus.HOLD, "moved again without a resume"
    return times


# Streams that go wrong -----------------------------------------------------------------------


def camera_faults(setup: Setup, trials: int) -> dict[str, list[float]]:
    """Spoil a camera: ms from the first spoiled picture to HOLD, with the camera named.

    The front camera is raw, the wrist camera JPEG.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cameras.yaml"
        data = strict_yaml.load(setup.contract)
        data["observation.images.wrist"]["type"] = "sensor_msgs/msg/CompressedImage"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        with robot(
            replace(setup, contract=str(path)),
            ("joints", "cameras", "supervisor"),
            ("hil", "policy"),
        ) as bot:
            bot.rig.wait_for_policy()
            return {
                fault: [camera_fault(bot.rig, fault, camera, make()) for _ in range(trials)]
                for fault, (camera, make) in CAMERA_FAULTS.items()
            }


def camera_fault(rig: Rig, fault: str, camera: str, spoil: Callable) -> float:
    """One trial: ms to HOLD; mends the camera afterwards."""
    rig.run_policy(moving=False)
    rig.swing = fault == "frozen"
    rig.pause(0.5)
    fault_s = time.monotonic()
    rig.spoil[camera] = spoil
    hold_s = rig.wait_for_mode(ControlStatus.HOLD, fault_s, 5.0)
    reason = rig.status.reason
    assert camera in reason, f"{fault}: {camera} is not named: {reason}"
    rig.spoil.clear()
    rig.swing = False
    rig.wait_for_policy()
    return 1e3 * (hold_s - fault_s)


def frozen() -> Callable:
    """The first picture again and again, with fresh stamps."""
    first = []

    def spoil(message):  # type: ignore[no-untyped-def]
        first.append(message.data)
        message.data = first[0]
        return message

    return spoil


def changed(**fields: object) -> Callable:
    """Messages with other fields."""

    def spoil(message):  # type: ignore[no-untyped-def]
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return spoil


def half_size(message):  # type: ignore[no-untyped-def]
    """A camera that was switched to half its height."""
    message.height //= 2
    message.data = message.data[: message.height * message.step]
    return message


CAMERA_FAULTS: dict[str, tuple[str, Callable]] = {
    "stops": ("front", lambda: lambda m: None),
    "frozen": ("front", frozen),
    "size": ("front", lambda: half_size),
    "encoding": ("front", lambda: changed(encoding="16UC1")),
    "corrupt_jpeg": ("wrist", lambda: changed(data=b"\xff\xd8\xff\xe0 not a picture")),
}


def joint_faults(setup: Setup, trials: int) -> tuple[dict[str, list[float]], int]:
    """Spoil the joint state: ms from the last sound one to HOLD, with the fault named.

    Also: how many holds a second of joints in reverse order caused (there must be none).
    """
    nan = float("nan")
    faults: dict[str, tuple[Callable, str]] = {
        "stale": (lambda m: None, "joint state"),
        "missing": (lambda m: edit_joints(m, lambda n, p: (n[:-1], p[:-1])), "missing"),
        "duplicated": (lambda m: edit_joints(m, lambda n, p: ([*n, n[0]], [*p, p[0]])), "twice"),
        "nan": (lambda m: edit_joints(m, lambda n, p: (n, [nan, *p[1:]])), "nan"),
    }
    times: dict[str, list[float]] = {fault: [] for fault in faults}
    with robot(setup, ("joints", "policy", "supervisor"), ("hil",)) as bot:
        rig = bot.rig
        for fault, (spoil, word) in faults.items():
            for _ in range(trials):
                rig.run_policy()
                rig.pause(0.2)
                fault_s = time.monotonic()
                rig.spoil["joints"] = spoil
                hold_s = rig.wait_for_mode(ControlStatus.HOLD, fault_s, 5.0)
                assert word in rig.status.reason, f"{fault}: {rig.status.reason}"
                rig.spoil.clear()
                rig.pause(0.2)
                times[fault].append(1e3 * (hold_s - fault_s))
        rig.spoil["joints"] = lambda m: edit_joints(m, lambda n, p: (n[::-1], p[::-1]))
        rig.run_policy()
        since_s = time.monotonic()
        rig.pause(1.0)
        holds = sum(m.mode != ControlStatus.POLICY for t, m in rig.statuses if t > since_s)
    return times, holds


def arm_held_back(setup: Setup, trials: int) -> list[tuple[float, int]]:
    """The arm stops where it is, as by an emergency stop, and its driver still says where.

    Per trial: ms from the first command that is further away than the contract allows to FAULT, and
    how many commands were sent from half a second later on.
    """
    allowed, results = 0.05, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "following.yaml"
        data = strict_yaml.load(setup.contract)
        data["action"]["max_following_error"] = {"default": allowed, "gripper": 2.0}
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        with robot(
            replace(setup, contract=str(path)), ("joints", "policy", "supervisor"), ("hil",)
        ) as bot:
            rig = bot.rig
            for _ in range(trials):
                rig.run_policy()
                rig.pause(0.2)
                stopped_s, pose = time.monotonic(), list(rig.wire[-1][1])
                rig.spoil["joints"] = lambda m, pose=pose: edit_joints(m, lambda n, p: (n, pose))
                fault_s = rig.wait_for_mode(ControlStatus.FAULT, stopped_s, 10.0)
                assert "does not follow" in rig.status.reason, rig.status.reason
                away_s = next(
                    at_s
                    for at_s, sent in list(rig.wire)
                    if at_s > stopped_s and np.abs(sent[:-1] - pose[:-1]).max() > allowed
                )
                rig.pause(1.0)
                sent = sum(at_s > fault_s + 0.5 for at_s, _ in list(rig.wire))
                results.append((1e3 * (fault_s - away_s), sent))
                rig.spoil.clear()
                rig.trigger("hil/clear_fault")
    return results


def edit_joints(message, edit: Callable):  # type: ignore[no-untyped-def]
    """The message with other names and positions."""
    message.name, message.position = edit(list(message.name), list(message.position))
    return message


# Chunks --------------------------------------------------------------------------------------


def bad_chunks_on_the_wire(setup: Setup, seconds: float) -> tuple[int, int]:
    """Every second chunk is nonsense: (chunks spoiled, commands beyond the limits)."""
    rng, spoiled = random.Random(0), 0

    def points(message, value):  # type: ignore[no-untyped-def]
        for point in message.trajectory.points:
            point.positions = [value] * len(point.positions)

    def shift(message, by_s):  # type: ignore[no-untyped-def]
        message.header.stamp = to_stamp(
            message.header.stamp.sec * NANO + message.header.stamp.nanosec + by_s * NANO
        )

    def shorten(message):  # type: ignore[no-untyped-def]
        message.trajectory.points[3].positions = [0.0]

    def empty(message):  # type: ignore[no-untyped-def]
        message.trajectory.points = []

    kinds: list[Callable] = [
        lambda m: points(m, float("nan")),
        lambda m: points(m, float("inf")),
        lambda m: points(m, 1e9),
        lambda m: points(m, -1e9),
        lambda m: shift(m, 10),
        lambda m: shift(m, -10),
        shorten,
        empty,
    ]

    def spoil(message):  # type: ignore[no-untyped-def]
        nonlocal spoiled
        if rng.random() < 0.5:
            spoiled += 1
            rng.choice(kinds)(message)
        return message

    with robot(setup, ("joints", "policy", "supervisor"), ("hil",)) as bot:
        bot.rig.run_policy()
        bot.rig.spoil["chunk"] = spoil
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            bot.rig.pause(0.05)
            if bot.rig.status.mode == ControlStatus.HOLD:
                bot.rig.spoil.pop("chunk")
                bot.rig.run_policy()
                bot.rig.spoil["chunk"] = spoil
        return spoiled, unsafe_commands([c for _, c in bot.rig.wire], bot.contract)


def unsafe_commands(commands: list[np.ndarray], contract: Contract) -> int:
    """Commands that are not finite, outside position limits or faster than allowed."""
    sent = np.stack(commands)
    limits, dt = contract.limits, 1.0 / contract.command_rate_hz
    bad = ~np.isfinite(sent).all(axis=1)
    bad |= ((sent < limits.low - 1e-9) | (sent > limits.high + 1e-9)).any(axis=1)
    bad[1:] |= (np.abs(np.diff(sent, axis=0)) > limits.velocity * dt + 1e-9).any(axis=1)
    return int(bad.sum())


def fuzzed_chunks(count: int) -> tuple[int, int, int]:
    """Chunks of all kinds into `CommandPath`, in process: (chunks, commands, unsafe commands).

    Before every tick come 20 chunks of 8 steps: values from the limits' size to 1e9, NaN and Inf,
    stamps and epochs mostly right. A person resumes after every stop.
    """
    contract = load_contract(default_contract())
    path, rng = CommandPath(contract), np.random.default_rng(0)
    joints = len(contract.action_names)
    assert contract.reset is not None
    home, dt_ns = np.array(contract.reset.pose), round(NANO / contract.command_rate_hz)
    measured, sent, done, tick = home, [], 0, 0
    start_ns = time.time_ns()
    while done < count:
        tick += 1
        now = Now(tick * dt_ns / NANO, tick * dt_ns / NANO, start_ns + tick * dt_ns)
        path.joints.take(measured, now.age_s)
        path.heartbeat.take("", now)
        path.on_request(Mode.POLICY, "fuzz", 1, now)
        path.clear_fault()
        path.arm(now)
        path.resume()
        values = home + rng.standard_normal((20, 8, joints)) * 10.0 ** rng.integers(
            -3, 10, (20, 1, 1)
        )
        values[rng.random((20, 8, joints)) < 0.002] = np.nan
        values[rng.random((20, 8, joints)) < 0.001] = -np.inf
        ages = np.where(rng.random(20) < 0.9, rng.uniform(0, 0.009, 20), rng.normal(0, 10, 20))
        for positions, age_s, wrong in zip(
            values, np.sort(ages)[::-1], rng.random(20), strict=True
        ):
            epoch = path.epoch + (wrong > 0.95)
            stamp_ns = now.ros_ns - int(age_s * NANO)
            path.on_chunk(Chunk(stamp_ns, epoch, positions[: 1 + int(8 * wrong)], 0.05), now)
        done += 20
        command = path.step(now)
        if command is not None:
            sent.append(command)
            measured = command
    return done, len(sent), unsafe_commands(sent, contract)


# Clocks, floods, neighbours ------------------------------------------------------------------


def clock_jumps(setup: Setup, trials: int) -> dict[str, list[int]]:
    """Jumps of /clock in motion: command ticks between the jump and the first of the stop."""
    jumps = {"forth_10s": 10.0, "back_10s": -10.0, "sim_reset": None}
    ticks: dict[str, list[int]] = {name: [] for name in jumps}
    with robot(setup, ("joints", "policy", "supervisor"), ("hil",), use_sim_time=True) as bot:
        rig, clock = bot.rig, SteppedClock(bot.rig)
        for name, jump_s in jumps.items():
            for _ in range(trials):
                rig.run_policy()
                rig.pause(0.3)
                jumped_s = time.monotonic()
                clock.jump(jump_s)
                hold_s = rig.wait_for_mode(ControlStatus.HOLD, jumped_s, 5.0)
                ticks[name].append(sum(jumped_s < t < hold_s for t in clock.sent_s) - 1)
                rig.pause(REST_S)
                assert rig.status.resume_required and rig.speed() == 0.0
    return ticks


class SteppedClock:
    """`/clock` at 100 Hz that a test can make jump; the rig stamps by it."""

    def __init__(self, rig: Rig) -> None:
        self.ns = 1000 * NANO
        self.sent_s: list[float] = []
        self._publisher = rig.node.create_publisher(Clock, "/clock", 10)
        rig.now_ns = lambda: self.ns  # type: ignore[method-assign]
        rig.node.create_timer(0.01, self.step)

    def step(self) -> None:
        """Next hundredth of a second."""
        self.ns += NANO // 100
        self.sent_s.append(time.monotonic())
        self._publisher.publish(Clock(clock=to_stamp(self.ns)))

    def jump(self, by_s: float | None) -> None:
        """Jump by seconds, or back to the start as a reset simulation does."""
        self.ns = NANO if by_s is None else self.ns + round(by_s * NANO)


def flood(setup: Setup, seconds: float) -> tuple[float, float]:
    """All inputs at ten times their rate: (memory growth of hil in MB, relative rate error)."""
    with robot(setup, ("joints", "policy", "supervisor"), ("hil",), rate_factor=10.0) as bot:
        rig = bot.rig
        rig.run_policy()
        before_mb = memory_mb(bot.runner.pid("hil"))
        count, start_s = rig.status.commands, time.monotonic()
        first = len(rig.statuses)
        rig.pause(seconds)
        assert all(m.mode == ControlStatus.POLICY for _, m in rig.statuses[first:])
        start_s, first_message = rig.statuses[first]
        end_s, last_message = rig.statuses[-1]
        count = last_message.commands - first_message.commands
        error = abs(count / (end_s - start_s) / bot.contract.command_rate_hz - 1)
        return memory_mb(bot.runner.pid("hil")) - before_mb, error


def two_robots(setup: Setup, seconds: float) -> tuple[int, int]:
    """Two robots in one domain, bent apart: (commands at the wrong one, commands seen)."""
    parts = ("joints", "policy", "supervisor")
    with (
        robot(setup, parts, ("hil",), namespace="left") as left,
        robot(setup, parts, ("hil",), own=False, namespace="right") as right,
    ):
        left.rig.offset, right.rig.offset = 0.12, -0.12
        left.rig.run_policy()
        right.rig.pause(0.5)
        crossed = len(right.rig.wire)  # only the left one is armed
        right.rig.run_policy()
        left.rig.pause(seconds)
        # After a second each arm is bent to its own side.
        bends = [command[0] for _, command in left.rig.wire[100:]]
        bends += [-command[0] for _, command in right.rig.wire[100:]]
        return crossed + sum(bool(bend < 0) for bend in bends), len(bends)
