"""A whole blinded comparison by real processes, two of which are killed in the middle."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from rewact_ros.bench.figures import Bench
from rewact_ros.policy.checkpoint_files import WEIGHTS, open_folder
from rewact_ros.share import share_dir
from rewact_ros.trials.journal import JOURNAL, read_course
from rewact_ros.trials.study import read_study

SEED, FIRST_SCENE = 1, 280_000
NOISE = 0.2  # so that about half of the scenes 150000 to 150007 fail
KILLS, LONGEST_S = 2, 12.0
DRIVEN = ("--replan-steps", "5", "--limit-s", "10")
_HEAD = "model.action_head.action."


def run(bench: Bench) -> None:
    """The shipped policy against a worse copy of it; `--quick`: six blocks at most."""
    place = (bench.folder / "trials_killed").resolve()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    good = share_dir() / "models" / "vx300s_pick_place"
    policies = [shutil.copytree(good, place / "shipped"), worse(good, place / "worse")]
    words = ["--seed", str(SEED), "--first-scene", str(FIRST_SCENE)]
    words += ["--most-blocks", "6", "--futility", "0"] if bench.quick else []
    longest_s = LONGEST_S / (4 if bench.quick else 1)
    bench.settings |= {
        "policies": "models/vx300s_pick_place, and the same with Gaussian noise of "
        f"{NOISE:g} standard deviations on the weights of its action head",
        "kill": f"SIGKILL, 0 to {longest_s:g} s after the first trial of a process",
        "command": " ".join(["rewact compare shipped worse", *words, *DRIVEN]),
    }
    draw, printed, kills = random.Random(0), [], 0
    for after_s in [draw.uniform(0.0, longest_s) for _ in range(KILLS)]:
        text, killed = _drive(place, [*map(str, policies), *words, *DRIVEN], after_s)
        printed.append(text)
        kills += killed
    printed.append(_drive(place, [], None)[0])
    _figures(bench, place, printed, kills)


def worse(good: Path, folder: Path) -> Path:
    """A copy of a checkpoint whose action head was disturbed."""
    shutil.copytree(good, folder)
    tensors, rng = load_file(folder / WEIGHTS), np.random.default_rng(0)
    for name in sorted(tensors):
        if name.startswith(_HEAD) and tensors[name].ndim > 1:
            noise = rng.standard_normal(tensors[name].shape).astype(np.float32)
            tensors[name] = tensors[name] + NOISE * tensors[name].std() * noise
    metadata = open_folder(good).metadata(WEIGHTS)
    save_file(tensors, folder / WEIGHTS, metadata)
    return folder


def _drive(place: Path, words: list[str], kill_s: float | None) -> tuple[str, bool]:
    """Run the study's command; what it printed, and whether it was killed before its end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "rewact_ros.cli", "compare", "--device", "cpu", *words],
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    lines = []
    with child:
        for line in child.stdout:
            lines.append(line)
            if kill_s is not None and line.startswith("trial "):
                time.sleep(kill_s)
                child.send_signal(signal.SIGKILL)
                break
        lines += child.stdout.readlines()
    if child.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"rewact compare ended with {child.returncode}: {''.join(lines)[-400:]}")
    return "".join(lines), child.returncode != 0


def _figures(bench: Bench, place: Path, printed: list[str], kills: int) -> None:
    folder = place / "runs" / "compare" / "study"
    study = read_study(folder)
    course, report = read_course(folder, study), json.loads((folder / "report.json").read_text())
    planned = [trial for block in range(len(course.results)) for trial in study.block(block)]
    kept = [
        (t["block"], t["slot"], t["code"], t["version"])
        == (p.block, p.slot, p.code, study.versions[p.version].name)
        for t, p in zip(report["trials"], planned, strict=False)
    ]
    # What was there to be read before the end: the terminal, and the journal.
    shown = "".join(re.split(r"^\d+ blocks: ", text, flags=re.M)[0] for text in printed)
    shown += (folder / JOURNAL).read_text()
    names = sum(len(re.findall(rf"\b{version.name}\b", shown)) for version in study.versions)
    standing = report["standing"]
    shipped = standing["means"]["shipped"]["mean"], standing["means"]["worse"]["mean"]
    n = standing["blocks"]
    goal = {} if bench.quick else {"goal": "1"}
    bench.add("kills", kills, "processes", goal=str(KILLS))
    bench.add("blocks", n, "blocks")
    bench.add(
        "decided_for_shipped",
        int(standing["decided"] == "shipped"),
        "yes or no",
        n=n,
        **goal,
    )
    lost = course.lost.total()
    bench.add("trials_lost", lost, "trials", goal=f"<= {KILLS}", n=len(course.began))
    bench.add("order_kept", sum(kept) / len(kept), "of the trials", goal="1", n=len(kept))
    bench.add("names_shown", names, "before the end", goal="0")
    bench.add("score_shipped", shipped[0], "mean score", n=n)
    bench.add("score_worse", shipped[1], "mean score", n=n)
