"""What a candidate that predicts beside the policy costs it, on a machine that does nothing else.

The real nodes `policy` and `shadow_policy`, fed with pictures and joints at the contract's rate, in
turns with and without the second. Both run the shipped policy.
"""

import statistics
import tempfile
from pathlib import Path

import numpy as np

from rewact_ros.bench.figures import Bench
from rewact_ros.msg import ActionChunk, EpisodeEvent, PolicyStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.stack.bringup import default_contract, default_policy
from rewact_ros.stack.rig_stack import Setup, cpu_seconds, memory_mb, robot

ROUNDS, TURN_S, SETTLED_S = 3, 30.0, 5.0
ALONE, BESIDE = "alone", "with a shadow"


def run(bench: Bench) -> None:
    """`--quick`: one short round."""
    rounds, seconds = (1, 3.0) if bench.quick else (ROUNDS, TURN_S)
    bench.settings.update(rounds=rounds, turn_s=seconds, contract=Path(default_contract()).name)
    found: dict[str, list[dict[str, float]]] = {ALONE: [], BESIDE: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, turns in found.items():
                turns.append(turn(name == BESIDE, seconds, folder))
    units = {"CPU per chunk": "ms", "shadow's CPU per chunk": "ms", "shadow's memory": "MB"}
    for name, turns in found.items():
        for figure in turns[0]:
            values = [one[figure] for one in turns]
            unit = units.get(figure, "Hz" if "rate" in figure else "ms")
            more = {"n": len(values), "low": min(values), "high": max(values)}
            bench.add(f"{name}: {figure}", statistics.median(values), unit, **more)


def turn(beside: bool, seconds: float, bags: str) -> dict[str, float]:
    """Bring both up, let an episode run, and take the times of its chunks."""
    shadow = {"shadow": default_policy(), "bags_dir": bags} if beside else {}
    nodes = ("policy", "shadow_policy") if beside else ("policy",)
    setup = Setup(contract=default_contract(), policy=default_policy())
    with robot(setup, ("joints", "cameras"), nodes, **shadow) as stack:
        delays_ms: list[float] = []
        shadows: list[float] = []
        ready: set[str] = set()
        rig = stack.rig

        node = rig.node
        node.create_subscription(
            ActionChunk,
            names.ACTION_CHUNK,
            lambda msg: delays_ms.append(1e3 * msg.latency),
            names.COMMAND,
        )
        node.create_subscription(
            PolicyStatus, names.SHADOW_STATUS, lambda msg: ready.add("shadow"), names.COMMAND
        )
        node.create_subscription(
            ActionChunk, names.SHADOW_CHUNK, lambda msg: shadows.append(0.0), names.COMMAND
        )
        events = node.create_publisher(EpisodeEvent, names.EPISODE_EVENT, names.EVENTS)
        rig.wait(lambda: bool(rig.heartbeats), "a heartbeat", 120.0)
        rig.wait_for_policy()
        if beside:
            rig.wait(lambda: bool(ready), "the shadow", 120.0)
        events.publish(EpisodeEvent(episode_id="e1", task="task"))
        rig.pause(SETTLED_S)
        pids = [stack.runner.pid(name) for name in nodes]
        before, count, others = [cpu_seconds(pid) for pid in pids], len(delays_ms), len(shadows)
        rig.pause(seconds)
        used = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
        delays, of_shadow = np.array(delays_ms[count:]), len(shadows) - others
        figures = {
            "stamp to chunk p50": float(np.percentile(delays, 50)),
            "stamp to chunk p99": float(np.percentile(delays, 99)),
            "rate of chunks": len(delays) / seconds,
            "CPU per chunk": 1e3 * used[0] / len(delays),
        }
        if beside:
            figures |= {
                "rate of the shadow's chunks": of_shadow / seconds,
                "shadow's CPU per chunk": 1e3 * used[1] / max(of_shadow, 1),
                "shadow's memory": memory_mb(pids[1]),
            }
        return figures
