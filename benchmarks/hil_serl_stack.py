"""Figures of learning over ROS topics: a learner that is killed again and again, and both paths.

The base acts throughout (the critic is never warm), so that both paths do the same thing on the
same scenes and only the path differs. `--quick` drives three episodes and kills once.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from recording_dagger import DEMO_COUNT, DEMOS, train_base
from safetensors.torch import load_file

from rewact_ros.bench.figures import Bench
from rewact_ros.learning.rl.journal import Journal, to_record
from rewact_ros.learning.rl.learner_state import AGENT, agent_tensors
from rewact_ros.learning.rl.loop import FastLoop
from rewact_ros.learning.rl.run import LearningRun
from rewact_ros.learning.rl.run_settings import LearnSettings, RunSettings
from rewact_ros.learning.rl.settings import load_settings
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.stack.bringup import default_contract, default_policy
from rewact_ros.stack.rig_stack import memory_mb

EPISODES, KILLS, SEED = 40, 10, 61_000
KILL_GAP_S = (15.0, 30.0)  # more often, and the bring-up would call it broken
CHANGES = {
    "critic_warmup_updates": 100_000,
    "online_step_before_learning": 100,
    "utd_ratio": 0.1,
    "utd_ratio_uncalibrated": 0.1,
}
COMMAND = [sys.executable, "-c", "from rewact_ros.cli import main; main()", "learn", "--sim"]


def run(bench: Bench) -> None:
    """Learn over topics under kills, learn the same again in process, and drive the fast path."""
    episodes, kills = (3, 1) if bench.quick else (EPISODES, KILLS)
    bench.settings |= {"first_scene": SEED, "learner": CHANGES, "signal": "SIGKILL"}
    torch.set_num_threads(1)  # as in the learner's process: sums of other order differ in bits
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        place = Path(folder)
        # A policy of a few steps would not do: the gate refuses its first command.
        weak = Path("runs/bench/dagger/base")
        base = Path(default_policy()) if bench.quick else train_base(weak, 1000)
        shared: dict[str, Any] = {
            "policy": str(base),
            "contract": default_contract(),
            "demos": str(DEMOS),
            "demo_episodes": 2 if bench.quick else DEMO_COUNT,
        }
        out = place / "topics"
        _learn_over_topics(bench, out, shared, episodes, kills)
        rl = load_settings(out / "settings.json")
        _compare_weights(bench, out, RunSettings(out=str(place / "again"), rl=rl, **shared))
        fast = LearnSettings(
            out=str(place / "fast"),
            rl=rl,
            episodes=episodes,
            first_seed=SEED,
            eval_every=0,
            video_every=0,
            device="cpu",
            **shared,
        )
        FastLoop(fast).run()
        _agreement(bench, "topics", out)
        _agreement(bench, "fast_path", place / "fast")


def _learn_over_topics(
    bench: Bench, out: Path, shared: dict[str, Any], episodes: int, kills: int
) -> None:
    options = {**shared, "episodes": episodes, "first_seed": SEED, "video_every": 0, "out": out}
    options["algorithm"] = "residual"
    begun_s = time.monotonic()
    killer = Killer(out, kills)
    with learning(options, CHANGES) as process:
        try:
            killer.start()
            wait_for_end(process, out)
        finally:
            killer.stop()
    bench.add("stack_wall", (time.monotonic() - begun_s) / 60, "min")
    bench.add("learner_kills", killer.done, "kills", goal=str(kills))
    bench.add("learner_memory", killer.peak_mb, "MB at most")
    executed, learned = (_records(out / name) for name in ("robot", "journal"))
    bench.add("transitions_executed", len(executed), "transitions")
    same = sum(a == b for a, b in zip(executed, learned, strict=False))
    bench.add("transitions_lost", len(executed) - same, "transitions", goal="0", n=len(executed))
    extra = len(learned) - len(executed)
    bench.add("transitions_twice", extra, "transitions", goal="0", n=len(executed))


@contextlib.contextmanager
def learning(
    options: dict[str, Any], changes: dict[str, Any], flags: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen]:
    """A process of `rewact learn --sim` in a ROS domain of its own; none is left behind.

    Args:
        options: of the command, name -> value.
        changes: of its settings.
        flags: further words.
    """
    command = [*COMMAND, *flags]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    for name, value in changes.items():
        command += ["--set", f"{name}={json.dumps(value)}"]
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for_end(process: subprocess.Popen, out: Path) -> None:
    """Raise unless a learning process ends well.

    Raises:
        RuntimeError: it did not.
    """
    if process.wait() != 0:
        raise RuntimeError(f"rewact learn ended with {process.returncode}; see {out}/nodes.log")


class Killer(threading.Thread):
    """Kills the learner of a run at random moments, and watches its memory.

    Args:
        out: folder of the run, by which its learner is known.
        kills: how many.
    """

    def __init__(self, out: Path, kills: int) -> None:
        super().__init__(daemon=True)
        self._out, self._kills = out, kills
        self._over = threading.Event()
        self.done, self.peak_mb = 0, 0.0

    def run(self) -> None:
        """Wait until the robot has done something, then kill again and again."""
        draw = random.Random(0)
        robot = self._out / "robot"
        while not self._over.wait(0.5):
            if robot.exists() and any(f.stat().st_size for f in robot.iterdir()):
                break
        due_s = time.monotonic() + draw.uniform(*KILL_GAP_S) / (1 if self._kills > 1 else 10)
        while not self._over.wait(0.2):
            pid = self._learner()
            if pid is None:
                continue
            with contextlib.suppress(OSError, StopIteration):  # it has just ended
                self.peak_mb = max(self.peak_mb, memory_mb(pid))
            if self.done < self._kills and time.monotonic() >= due_s:
                os.kill(pid, signal.SIGKILL)
                self.done += 1
                due_s = time.monotonic() + draw.uniform(*KILL_GAP_S)

    def stop(self) -> None:
        """End without another kill."""
        self._over.set()
        self.join()

    def _learner(self) -> int | None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_text()
            except OSError:
                continue  # it has just ended
            if "rewact_ros.nodes.learner" in words and self._parameters(words):
                return int(entry.parent.name)
        return None

    def _parameters(self, words: str) -> bool:
        """Whether a node's parameters are those of this run."""
        if str(self._out) in words:
            return True
        files = [word for word in words.split("\0") if word.endswith(".yaml")]
        return any(Path(f).is_file() and str(self._out) in Path(f).read_text() for f in files)


def _compare_weights(bench: Bench, out: Path, settings: RunSettings) -> None:
    """Learn from the same journal in one go; the weights must be those of the killed learner."""
    again = LearningRun(settings, resume=False)
    again.restore(0.9)
    journal = Journal(out / "journal")
    for transition in journal.read():
        again.take(transition)
    journal.close()
    killed, whole = load_file(out / "checkpoints" / "last" / AGENT), agent_tensors(again.agent)
    largest = max(float((killed[k].double() - whole[k].double()).abs().max()) for k in whole)
    updates = again.learner.counts.updates
    again.close()
    bench.add("weights_difference", largest, "largest", goal="0", n=updates)


def _agreement(bench: Bench, name: str, out: Path) -> None:
    """Success by the simulation's truth, by the verdict, and takeovers per episode."""
    lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    n = len(lines)
    helped = takeovers(out / "journal")
    alone = n - len(helped)
    for figure, count in (
        ("true_success", sum(bool(line["truth"]) for line in lines)),
        ("unaided", alone),
    ):
        low, high = wilson_interval(count, n)
        bench.add(f"{name}_{figure}", count / n, "share", n=n, low=low, high=high)
    bench.add(f"{name}_takeovers", sum(helped.values()) / n, "per episode", n=n)


def takeovers(folder: Path) -> dict[str, int]:
    """Turns of a human in a journal, by episode; an episode without one is not there."""
    helped, last = {}, ("", False)
    journal = Journal(folder)
    for transition in journal.read():
        if transition.human and last != (transition.episode, True):
            helped[transition.episode] = helped.get(transition.episode, 0) + 1
        last = (transition.episode, transition.human)
    journal.close()
    return helped


def _records(folder: Path) -> list[bytes]:
    journal = Journal(folder)
    try:
        return [to_record(transition) for transition in journal.read()]
    finally:
        journal.close()
