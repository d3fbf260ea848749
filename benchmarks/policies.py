"""Bench topic `policies`: foreign policies through the whole stack, quick ones and slow ones.

The shipped RewACT; LeRobot's own types, trained small by `lerobot-train` on scripted
demonstrations; and two plug-ins, which LeRobot's register finds as it finds every plug-in. One
(`policy_plugins/lerobot_policy_late`) decides as the shipped policy does, and takes as long as is
wanted. The other (`lerobot_policy_told_act`) knows two tasks, and a text tells it which. A judge
beside them, the shipped policy, gives the verdicts; the second task has none. The robot is the
simulated one in real time, on the same unseen scenes for each; what reaches its driver is measured
on the wire.
"""

import json
import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from lerobot_training import POINT, TOLD, is_installed, provide_plugins, trained

from rewact_ros import strict_yaml
from rewact_ros.bench.figures import Bench
from rewact_ros.contract import Contract, load_contract
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.ros.commands import command_decoder, command_type
from rewact_ros.sim.task import DEFAULT_TASK, find_task
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import default_contract, default_policy
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.demo import unattended
from rewact_ros.stack.episode_watch import EpisodeWatch

PARTS = True
TYPES = ("ACT", "diffusion", "VQ-BeT")
TEXT, POINT_TEXT = find_task(DEFAULT_TASK).text, "Point at the red cube."
POINT_S = 6.0  # nobody judges it, so that every episode lasts as long
SEED = 250_500  # no policy, threshold or setting was chosen on these scenes
# Inference in s, steps of a chunk. 0.3 s is what a small VLA takes on a robot's computer.
KINDS = {
    "quick chunks": (0.0, 20),
    "300 ms chunks": (0.3, 20),
    "quick single actions": (0.0, 1),
    "300 ms single actions": (0.3, 1),
}
# The chunk of a policy that takes 0.3 s gets 0.6 s old; the shipped contract allows 0.5.
MAX_CHUNK_AGE_S = 0.8
# By the shipped limit 17 of 20 episodes of it ended at a chunk that was 0.5 s old.
SLOW = {"diffusion"}
PAUSE_S = 0.1  # so long without a change is a pause of the command, while the policy leads
_STILL = 1e-5  # rad


def run(bench: Bench) -> None:
    """Every policy on the same scenes; `--quick` some on one.

    Raises:
        ValueError: `only` names a policy that there is not.
    """
    every = (*KINDS, "RewACT", *TYPES, TOLD)
    unknown = [name for name in bench.only if name not in every]
    if unknown:
        known = "; ".join(every)
        raise ValueError(f"bench policies: --only: expected some of {known}, got {unknown[0]}")
    provide_plugins()
    chosen = bench.only or ((*list(KINDS)[:2], "RewACT", "ACT", TOLD) if bench.quick else every)
    episodes = 1 if bench.quick else 20
    bench.settings.update(first_scene=SEED, episodes=episodes, max_chunk_age_s=MAX_CHUNK_AGE_S)
    bench.keep_parts(("first_scene", "episodes", "max_chunk_age_s"))
    with tempfile.TemporaryDirectory() as folder:
        contract = for_the_slow(Path(folder))
        for name in (name for name in KINDS if name in chosen):
            policy = late(Path(folder) / name.replace(" ", "-"), contract, *KINDS[name])
            drive(bench, name, Path(folder), contract, policy, episodes)
    lerobot, contract = bench.folder / f"lerobot{'-quick' * bench.quick}", Path(default_contract())
    with tempfile.TemporaryDirectory() as folder:
        slow = for_the_slow(Path(folder))
        if "RewACT" in chosen:
            own = Path(default_policy())
            drive(bench, "RewACT", Path(folder), contract, own, episodes, judge="")
        for name in (name for name in TYPES if name in chosen and is_installed(name)):
            policy = trained(name, lerobot, bench.quick)
            robot = slow if name in SLOW else contract
            drive(bench, name, Path(folder), robot, policy, episodes)
        if TOLD in chosen:
            told = trained(TOLD, lerobot, bench.quick)
            drive(bench, f"{TOLD}, {TEXT}", Path(folder), contract, told, episodes)
            second = {"task": POINT, "text": POINT_TEXT, "judge": "", "timeout_s": POINT_S}
            drive(bench, f"{TOLD}, {POINT_TEXT}", Path(folder), contract, told, episodes, **second)
    absent = [n for n in every if not any(key.startswith(n) for key in bench.figures)]
    bench.settings["left out"] = "; ".join(absent) or "none"


def for_the_slow(folder: Path) -> Path:
    """The robot's contract, written for policies whose chunks come late."""
    contract = folder / "contract.yaml"
    data = strict_yaml.load(default_contract()) | {"max_chunk_age_s": MAX_CHUNK_AGE_S}
    contract.write_text(yaml.safe_dump(data, sort_keys=False))
    return contract


def late(folder: Path, contract: Path, inference_s: float, chunk: int) -> Path:
    """Write a checkpoint of the plug-in for the contract's robot."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config
    from lerobot.utils.import_utils import register_third_party_plugins

    from rewact_ros.policy.checkpoint import save_policy
    from rewact_ros.policy.processor_rewact import make_rewact_pre_post_processors

    register_third_party_plugins()
    robot = load_contract(contract)
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (len(robot.state_names),))}
    for camera in robot.cameras:
        height, width, channels = camera.shape
        inputs[camera.key] = PolicyFeature(FeatureType.VISUAL, (channels, height, width))
    config = make_policy_config(
        "late",
        device="cpu",
        base=str(Path(default_policy()).resolve()),
        inference_s=inference_s,
        chunk_size=chunk,
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (len(robot.action_names),))},
    )
    policy = get_policy_class("late")(config)
    save_policy(folder, policy, *make_rewact_pre_post_processors(config, {}))
    return folder


class Wire:
    """Commands (A,) of an episode with their times, while the policy leads."""

    def __init__(self, robot: Commander, contract: Contract) -> None:
        self.sent: list[tuple[float, Any]] = []
        (part,) = contract.action
        read = command_decoder(part)

        def keep(msg: Any) -> None:
            control = robot.control
            if control is not None and control.active_source == "policy":
                now = robot.node.get_clock().now().nanoseconds / 1e9
                self.sent.append((now, np.array(read(msg))))

        robot.node.create_subscription(command_type(part), part.topic, keep, 100)

    def figures(self, contract: Contract) -> tuple[float, float]:
        """(share of the time in pauses, largest step between two commands as a share of what the
        velocity limit allows in their nominal period); the sent ones are forgotten.

        A pause lies between two motions: the wait for the first chunk is none.
        """
        sent, self.sent = self.sent, []
        if len(sent) < 2:
            return math.nan, math.nan
        times = np.array([t for t, _ in sent])
        steps = np.abs(np.diff(np.array([c for _, c in sent]), axis=0))
        allowed = contract.limits.velocity / contract.action[0].command_rate_hz
        moved = np.flatnonzero(steps.max(axis=1) > _STILL)
        gaps = np.diff(times[moved + 1])  # neither before the first motion nor after the last
        return float(gaps[gaps > PAUSE_S].sum() / (times[-1] - times[0])), float(
            (steps / allowed).max()
        )


class NodeTimes:
    """What node `policy` says of itself, newest last."""

    def __init__(self, robot: Commander) -> None:
        self._values: dict[str, str] = {}
        robot.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_message, 10)

    def _on_message(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name == "/policy":
                self._values = {each.key: each.value for each in status.values}

    @property
    def inference_ms(self) -> float:
        """Median."""
        return float(self._values.get("inference_p50_ms", "nan"))

    @property
    def overhead_ms(self) -> float:
        """Median from a complete observation to its chunk, less the median of the inference."""
        return float(self._values.get("observation_to_chunk_p50_ms", "nan")) - self.inference_ms


def drive(
    bench: Bench,
    name: str,
    folder: Path,
    contract: Path,
    policy: Path,
    episodes: int,
    *,
    judge: str = default_policy(),
    task: str = DEFAULT_TASK,
    text: str = TEXT,
    timeout_s: float = 0.0,
) -> None:
    """Bring the stack up with a policy, run the scenes, and add the figures."""
    params = unattended(folder)
    if timeout_s:  # nobody judges, and the supervisor is not to miss a reward
        params.write_text(f"{params.read_text()}    staleness_s: 60.0\n")
    args = BringUp(
        contract=str(contract),
        policy=str(policy),
        judge=judge,
        task=task,
        params_file=str(params),
        sim=True,
        seed=SEED,
    )
    loaded = load_contract(contract)
    rows: list[dict[str, Any]] = []
    show: Callable[[str], None] = print
    with Commander(args) as robot:
        watch, wire, node = EpisodeWatch(robot, loaded), Wire(robot, loaded), NodeTimes(robot)
        for _ in range(episodes):
            robot.arm()
            wire.sent.clear()
            result, log = watch.execute(text, timeout_s)
            paused, step = wire.figures(loaded)
            done = log.truth is not None and log.truth.success
            rows.append(
                {
                    "success": done,
                    "right": done == result.success,
                    "seconds": log.true_success_s - log.running_s,
                    "paused": paused,
                    "step": step,
                }
            )
            show(f"    {name}: {json.dumps(rows[-1])}, {result.reason}")
        robot.disarm()
        delay, overhead_ms = robot.timings()["observation_to_command"], node.overhead_ms
    judged = timeout_s == 0.0
    titles = {"success": "success"} | ({"right": "verdict right"} if judged else {})
    for key, title in titles.items():
        count = sum(row[key] for row in rows)
        low, high = wilson_interval(count, len(rows))
        bench.add(f"{name}: {title}", count / len(rows), "share", n=len(rows), low=low, high=high)
    seconds = [row["seconds"] for row in rows if row["success"]]
    if seconds:
        bench.add(f"{name}: time of a success", statistics.median(seconds), "s", n=len(seconds))
    worst = max(row["step"] for row in rows)
    bench.add(f"{name}: largest step", worst, "of the velocity limit", goal="<= 1.001", n=len(rows))
    paused = [row["paused"] for row in rows]
    bench.add(f"{name}: time in pauses", statistics.median(paused), "share", n=len(rows))
    bench.add(f"{name}: observation to command p50", delay.p50_ms, "ms", n=delay.n)
    # A slower policy takes the newest observation when it is free again. By then that is half a
    # period old in the median, and so much of the figure is no work of the node's.
    waits = node.inference_ms > 1e3 / loaded.rate_hz
    goal = "" if waits else "<= 3"
    bench.add(f"{name}: node over its inference p50", overhead_ms, "ms", goal=goal, n=delay.n)
