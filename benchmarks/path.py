"""From photon to command: our stack beside the bare engine and beside a timer-driven node.

Times are of the system clock when a sender hands a message to the middleware. `peer` is
`path_peer.py`, the same job done the way public ROS 2 runtimes do it; it, our node and the bare
engine call take turns on the same cameras. `demo` is the whole stack of `rewact demo`.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from path_turns import Case, Session, bare_turn, our_turn, peer_turn
from path_wire import Wire

from rewact_ros import strict_yaml
from rewact_ros.bench.figures import Bench
from rewact_ros.contract import Contract, load_contract
from rewact_ros.sim.task import DEFAULT_TASK, find_task
from rewact_ros.stack.bringup import BringUp, default_contract, default_policy
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.episode_watch import EpisodeWatch

SEED = 250_000
LOAD_HZ, LOAD_SHAPE, LOAD_SEEN = 30, (480, 640, 3), (120, 160)
OVERHEAD_SHARE, OVERHEAD_MS = 0.15, 2.0


def run(bench: Bench) -> None:
    """Measure everything; `--quick` has one short turn each on the small robot."""
    seconds, rounds = (5.0, 1) if bench.quick else (15.0, 2)
    bench.settings.update(
        seconds_per_turn=seconds,
        rounds=rounds,
        threads=1,
        load=f"2 raw cameras {LOAD_SHAPE[1]}x{LOAD_SHAPE[0]} at {LOAD_HZ} Hz, random weights",
        demo_seed=SEED,
    )
    with tempfile.TemporaryDirectory() as folder:
        compare(bench, shipped(), Path(folder), seconds, rounds)
        if not bench.quick:
            compare(bench, large(Path(folder)), Path(folder), seconds, rounds)
    demo(bench, 10.0 if bench.quick else 120.0)


# The robots ----------------------------------------------------------------------------------


def shipped() -> Case:
    """The simulated arm's contract and policy: 2 cameras of 96x96 at 20 Hz."""
    return Case("small", default_contract(), default_policy())


def large(folder: Path) -> Case:
    """The same arm with two VGA cameras at 30 Hz, and a policy that looks at them scaled down."""
    data = strict_yaml.load(default_contract())
    for key, value in data.items():
        if key.startswith("observation.images"):
            value["shape"] = list(LOAD_SHAPE)
    data.update(rate_hz=LOAD_HZ, replan_hz=LOAD_HZ)
    contract = folder / "large.yaml"
    contract.write_text(yaml.safe_dump(data, sort_keys=False))
    policy = folder / "policy"
    save_random_policy(load_contract(contract), policy, image_size=LOAD_SEEN)
    return Case("large", str(contract), str(policy))


def save_random_policy(contract: Contract, folder: Path, seed: int = 0, **network: Any) -> None:
    """A policy with random weights, near the reset pose; of the shipped one's size unless said."""
    import torch
    from lerobot.configs import FeatureType, PolicyFeature

    from rewact_ros.policy import RewACTConfig, RewACTPolicy, make_rewact_pre_post_processors
    from rewact_ros.policy.checkpoint import save_policy

    assert contract.reset is not None
    home = torch.tensor(contract.reset.pose)
    size = {"state": len(contract.state_names), "action": len(contract.action_names)}
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (size["state"],))}
    for camera in contract.cameras:
        height, width, channels = camera.shape
        inputs[camera.key] = PolicyFeature(FeatureType.VISUAL, (channels, height, width))
    stats = {
        "observation.state": {"mean": home, "std": torch.ones(size["state"])},
        "action": {"mean": home, "std": torch.full((size["action"],), 0.02)},
    }
    torch.manual_seed(seed)
    policy = RewACTPolicy(
        RewACTConfig(
            input_features=inputs,
            output_features={"action": PolicyFeature(FeatureType.ACTION, (size["action"],))},
            reward_head="distributional",
            device="cpu",
            **network,
        )
    )
    record = {"hash": contract.hash, "signature": contract.signature()}
    processors = make_rewact_pre_post_processors(policy.config, dataset_stats=stats)
    save_policy(folder, policy, *processors, contract=record)


# Turns ---------------------------------------------------------------------------------------


def compare(bench: Bench, case: Case, folder: Path, seconds: float, rounds: int) -> None:
    """Our node, the bare engine and the peer in turn, on one robot; torch in all three."""
    ours, peers, bare = [], [], []
    for _ in range(rounds):
        ours.append(our_turn(case, folder, "torch", seconds))
        bare.append(bare_turn(case, "torch", seconds))
        peers.append(peer_turn(case, seconds))
    period_ms = 1e3 * load_contract(case.contract).dt_s
    for who, sessions in (("ours", ours), ("peer", peers)):
        name, is_ours = f"{case.name}_{who}", who == "ours"
        goal = f"≤ {period_ms:.3g}" if is_ours else ""
        commands = joined(sessions, "stamp_to_command")
        add_percentiles(bench, f"{name}_stamp_to_command", commands, goal)
        if is_ours:
            add_percentiles(bench, f"{name}_stamp_to_chunk", joined(sessions, "stamp_to_chunk"))
        add_jitter(bench, name, joined(sessions, "intervals"))
        sent, lost = sum(s.sent for s in sessions), sum(s.lost for s in sessions)
        bench.add(f"{name}_images_lost", lost, "images", goal="0" if is_ours else "", n=sent)
    add_overhead(bench, f"{case.name}_torch", ours, bare)
    ours = [our_turn(case, folder, "auto", seconds) for _ in range(rounds)]
    bare = [bare_turn(case, "auto", seconds) for _ in range(rounds)]
    add_overhead(bench, f"{case.name}_auto", ours, bare)


# The demo's stack ----------------------------------------------------------------------------


def demo(bench: Bench, seconds: float) -> None:
    """Robot, policy, hil and supervisor as `rewact demo` starts them, task after task."""
    args = BringUp(policy=default_policy(), sim=True, seed=SEED)
    contract = load_contract(default_contract())
    with Commander(args) as robot:
        wire = Wire(contract).listen(robot.node)
        watch = EpisodeWatch(robot, contract)  # a second reader of the images, as in the demo
        robot.arm()
        since_ns = time.time_ns()
        while time.time_ns() < since_ns + seconds * 1e9:
            watch.execute(find_task(DEFAULT_TASK).text)
        end_ns = time.time_ns()
        robot.disarm()
    period_ms = 1e3 * contract.dt_s
    goal = f"≤ {period_ms:g}"
    add_percentiles(bench, "demo_stamp_to_chunk", wire.stamp_to_chunk_ms(since_ns))
    add_percentiles(bench, "demo_stamp_to_command", wire.stamp_to_command_ms(since_ns), goal)
    add_jitter(bench, "demo", moving_intervals(wire, since_ns))
    frames = {ns for ns in wire.truths_ns if since_ns < ns < end_ns - 5e8}
    without = len(frames - {chunk.stamp_ns for chunk in wire.chunks})
    bench.add("demo_frames_without_chunk", without, "frames", goal="0", n=len(frames))


def moving_intervals(wire: Wire, since_ns: int) -> np.ndarray:
    """Between commands, ms, while hil sends without a break."""
    intervals = wire.intervals_ms(since_ns)
    return intervals[intervals < 1e3]


# Figures -------------------------------------------------------------------------------------


def joined(sessions: list[Session], field: str) -> np.ndarray:
    """One distribution of all turns."""
    return np.concatenate([getattr(session, field) for session in sessions])


def add_percentiles(bench: Bench, name: str, values_ms: np.ndarray, goal: str = "") -> None:
    """p50, p95 and p99; the goal is for p99."""
    for share in (50, 95, 99):
        value = float(np.percentile(values_ms, share)) if len(values_ms) else None
        aim = goal if share == 99 else ""
        bench.add(f"{name}_p{share}", value, "ms", goal=aim, n=len(values_ms))


def add_jitter(bench: Bench, name: str, intervals_ms: np.ndarray) -> None:
    """How far the intervals between commands lie from their median."""
    n = len(intervals_ms)
    middle = float(np.median(intervals_ms)) if n else None
    bench.add(f"{name}_command_interval_p50", middle, "ms", n=n)
    for share in (50, 99):
        value = float(np.percentile(np.abs(intervals_ms - middle), share)) if n else None
        bench.add(f"{name}_command_jitter_p{share}", value, "ms", n=n)


def add_overhead(bench: Bench, name: str, ours: list[Session], bare: list[np.ndarray]) -> None:
    """From a complete observation to its chunk, less the engine's bare call; medians."""
    warm = [calls[len(calls) // 10 :] for calls in bare]
    call_ms = float(np.median(np.concatenate(warm)))
    node_ms = float(np.median([session.node_p50 for session in ours]))
    n = sum(len(session.stamp_to_chunk) for session in ours)
    bench.add(f"{name}_bare_call_p50", call_ms, "ms", n=sum(map(len, warm)))
    bench.add(f"{name}_observation_to_chunk_p50", node_ms, "ms", n=n)
    goal = f"≤ {min(OVERHEAD_SHARE * call_ms, OVERHEAD_MS):.2g}"
    bench.add(f"{name}_node_overhead_p50", node_ms - call_ms, "ms", goal=goal, n=n)
