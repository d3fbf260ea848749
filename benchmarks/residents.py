"""Several policies in one process: how soon another task's policy speaks, and what each one costs.

The real node `policy` with a table of tasks, fed with pictures and joints at the contract's rate;
an episode's event comes at any moment of that period. `shipped` is the shipped policy and copies
with other weights, `full` LeRobot's default ACT (ResNet-18, width 512), untrained.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from engines_cases import FULL
from path import save_random_policy

from rewact_ros.bench.figures import Bench
from rewact_ros.contract import load_contract
from rewact_ros.msg import ActionChunk, EpisodeEvent
from rewact_ros.ros import interfaces as names
from rewact_ros.stack.bringup import default_contract, default_policy
from rewact_ros.stack.rig_stack import Robot, Setup, cpu_seconds, memory_mb, robot

SEED = 7
RESNET = {"vision_backbone": "resnet18", "n_encoder_layers": 4, "n_action_steps": 100}
SETTLED_S = 3.0  # from the first chunk to when memory and CPU are read
CPU_S = 10.0
FIRST_CHUNKS = 8  # of a policy that speaks for the first time: some are compared with torch
PAUSE_S = (0.2, 0.4)  # between a chunk and the next event


def run(bench: Bench) -> None:
    """Switches between four policies, beside episodes that need none; memory and CPU."""
    switches = 10 if bench.quick else 100
    bench.settings.update(
        switches=switches, seed=SEED, contract=Path(default_contract()).name, threads=1
    )
    with tempfile.TemporaryDirectory() as folder:
        shipped = [copy_with(Path(folder) / f"p{i}", i) for i in range(4)]
        measure(bench, "shipped", shipped, switches)
        if not bench.quick:
            contract = load_contract(default_contract())
            full = [Path(folder) / f"full{i}" for i in range(3)]
            for seed, path in enumerate(full):
                save_random_policy(contract, path, seed, **RESNET, **FULL)
            measure(bench, "full", full, 0)


def measure(bench: Bench, name: str, policies: list[Path], switches: int) -> None:
    """Memory and CPU of the first alone and of all of them, then the switches."""
    alone = used(policies[:1])
    with running(policies) as stack:
        several = usage(stack)
        if switches:
            switch(bench, stack, name, len(policies), switches)
    more, n = len(policies) - 1, len(policies)
    bench.add(f"{name}: memory of one", alone[0], "MB")
    bench.add(f"{name}: memory of all", several[0], "MB", n=n)
    bench.add(f"{name}: memory of each more", (several[0] - alone[0]) / more, "MB", n=more)
    bench.add(f"{name}: CPU per chunk of one", alone[1], "ms")
    bench.add(f"{name}: CPU per chunk of all, one of which infers", several[1], "ms", n=n)


def running(policies: list[Path]) -> Any:
    """The node with a table of these policies; task `task i` is of the i-th."""
    table = policies[0].parent / "tasks.yaml"
    rows = [{"task": f"task {i}", "policy": str(policy)} for i, policy in enumerate(policies)]
    table.write_text(json.dumps({"tasks": rows}))
    setup = Setup(contract=default_contract())
    return robot(setup, ("joints", "cameras"), ("policy",), tasks=str(table))


def used(policies: list[Path]) -> tuple[float, float]:
    """As `usage`, of a node that is started for it."""
    with running(policies) as stack:
        return usage(stack)


def usage(stack: Robot) -> tuple[float, float]:
    """(resident memory in MB, CPU time of the process per chunk in ms) while one policy infers."""
    ears, pid = Ears(stack), stack.runner.pid("policy")
    ears.task(0)
    stack.rig.pause(SETTLED_S)
    began_s, count = cpu_seconds(pid), len(ears.chunks)
    stack.rig.pause(CPU_S)
    used_s = cpu_seconds(pid) - began_s
    return memory_mb(pid), 1e3 * used_s / (len(ears.chunks) - count)


class Ears:
    """Says which task begins, and hears which policy speaks."""

    def __init__(self, stack: Robot) -> None:
        self._rig = stack.rig
        self.chunks: list[tuple[float, ActionChunk]] = []
        node = stack.rig.node
        self._events = node.create_publisher(EpisodeEvent, names.EPISODE_EVENT, names.EVENTS)
        node.create_subscription(
            ActionChunk,
            names.ACTION_CHUNK,
            lambda msg: self.chunks.append((time.monotonic(), msg)),
            names.COMMAND,
        )
        self._rig.wait(lambda: bool(self._rig.heartbeats), "a heartbeat", 120.0)
        self._rig.wait_for_policy()
        self._rig.wait(lambda: self._events.get_subscription_count() > 1, "who hears events")
        self._number = 0

    def task(self, index: int) -> tuple[float, float, bool]:
        """Begin an episode; (event to heartbeat, event to chunk, whether the policy is another).

        In ms. The chunk is the first whose inference began after the event, so that an episode of
        the same policy is what a switch has to be compared with.
        """
        self._number += 1
        msg = EpisodeEvent(episode_id=f"e{self._number}", task=f"task {index}")
        before = self._rig.heartbeats[-1][1].policy_version
        began_s, beats, heard = time.monotonic(), len(self._rig.heartbeats), len(self.chunks)
        self._events.publish(msg)
        self._rig.wait(lambda: len(self.chunks) > heard + FIRST_CHUNKS, "chunks")
        new = self.chunks[-1][1].policy_version
        later = self.chunks[heard:]
        if new != before:
            at = [chunk.policy_version for _, chunk in later].index(new)
            later = later[at:]
            assert {chunk.policy_version for _, chunk in later} == {new}, "two policies are mixed"
        chunk_s = next(s for s, m in later if s - m.inference_time >= began_s)
        beat_s = next(s for s, m in self._rig.heartbeats[beats:] if m.policy_version == new)
        return 1e3 * (beat_s - began_s), 1e3 * (chunk_s - began_s), new != before


def switch(bench: Bench, stack: Robot, name: str, count: int, switches: int) -> None:
    """Each policy's first words, then as many episodes of the same task as of another, mixed."""
    ears, rng = Ears(stack), np.random.default_rng(SEED)
    first = [ears.task(i)[1] for i in range(count)][1:]
    bench.add(f"{name}: event to chunk, first use", max(first), "ms", n=len(first))
    others = rng.permutation([True, False] * switches)
    beats, chunks, now = [], {True: [], False: []}, count - 1
    for other in others:
        stack.rig.pause(float(rng.uniform(*PAUSE_S)))
        now = int(rng.choice([i for i in range(count) if i != now])) if other else now
        beat_ms, chunk_ms, changed = ears.task(now)
        assert changed == other
        chunks[changed].append(chunk_ms)
        if changed:
            beats.append(beat_ms)
    n = len(beats)
    for share in (50, 99):
        beat, new, same = (float(np.percentile(v, share)) for v in (beats, *chunks.values()))
        goal = {"goal": "<= 100"} if share == 99 else {}
        bench.add(f"{name}: event to heartbeat of another policy p{share}", beat, "ms", n=n)
        bench.add(f"{name}: event to chunk of another policy p{share}", new, "ms", n=n)
        bench.add(f"{name}: event to chunk of the same policy p{share}", same, "ms", n=n)
        bench.add(f"{name}: added by the switch p{share}", new - same, "ms", n=n, **goal)


# Checkpoints ----------------------------------------------------------------------------------


def copy_with(folder: Path, seed: int) -> Path:
    """The shipped policy with its weights shifted a little: another one to every program."""
    import shutil

    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    shutil.copytree(Path(default_policy()).resolve(), folder)
    if seed == 0:
        return folder
    file, generator = folder / "model.safetensors", torch.Generator().manual_seed(seed)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
        weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    for key, value in weights.items():
        if value.is_floating_point() and "running_" not in key:
            weights[key] = value * (1 + 1e-3 * torch.randn(value.shape, generator=generator))
    save_file(weights, file, metadata=metadata)
    return folder
