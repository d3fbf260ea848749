"""Bench topic `robots`: a contract made from what is there, against the shipped one; the doctor.

Each robot is a fake driver (`robot_drivers.py`) in a process of its own: its topics, types, joint
orders with joints that nobody wants, its controllers, its model, and a data set's info.json. The
command is the user's own, `rewact contract init`. A key is right where it is the shipped
contract's; what is measured, within a quarter of it: a busy machine slows the fake drivers, which
shows there. Accelerations and start jumps are choices that no driver tells; both files have them by
one rule. So the three kinds are also counted apart. `robots_doctor.py` and `robots_newcomer.py`
have the other parts.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import robots_doctor
import robots_newcomer

from rewact_ros import strict_yaml
from rewact_ros.cli.bench import Bench
from rewact_ros.contract import load_contract
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.share import share_dir

MODELS = Path(__file__).with_name("robot_models")
CHOICES = ("acceleration", "max_start_jump")
MEASURED = ("max_age_s", "max_skew_s", "command_rate_hz")
LONGEST_S = 120.0


def run(bench: Bench) -> None:
    """Measure every robot with a driver, or three of them with --quick."""
    drivers = json.loads((MODELS / "drivers.json").read_text())
    names = sorted(drivers)[:3] if bench.quick else sorted(drivers)
    bench.settings.update(robots=", ".join(names), listening_s=3.0)
    counts: dict[str, list[int]] = {kind: [0, 0] for kind in ("told", "measured", "chosen")}
    seconds = []
    for name in names:
        made, took_s = _init(name, drivers[name])
        shipped = leaves(share_dir() / "config" / "robots" / f"{name}.yaml")
        good = 0
        for key, value in shipped.items():
            same = _same(key, value, made.get(key))
            counts[_kind(key)][0] += same
            counts[_kind(key)][1] += 1
            good += same
            if not same:
                print(f"    {name}: {_kind(key)} {key}: {value!r}, made {made.get(key)!r}")
        seconds.append(took_s)
        bench.add(f"{name} all keys right", good / len(shipped), "share", n=len(shipped))
        bench.add(f"{name} checked contract after", took_s, "s", goal="<= 60")
    for kind, (right, total) in counts.items():
        low, high = wilson_interval(right, total)
        goal = ">= 0.95" if kind == "told" else ""
        bench.add(
            f"init keys right, {kind}",
            right / total,
            "share",
            goal=goal,
            n=total,
            low=low,
            high=high,
        )
    right, total = (sum(column) for column in zip(*counts.values(), strict=True))
    low, high = wilson_interval(right, total)
    bench.add(
        "init keys right", right / total, "share", goal=">= 0.95", n=total, low=low, high=high
    )
    bench.add("init slowest", max(seconds), "s", goal="<= 60", n=len(seconds))
    bench.add("joint names typed by hand", 0, "names", goal="<= 0", n=len(names))
    robots_doctor.run(bench)
    robots_newcomer.run(bench)


def _kind(key: tuple) -> str:
    """Whether a key is told by a source, measured, or a choice that no source tells."""
    if set(key) & set(CHOICES):
        return "chosen"
    return "measured" if set(key) & set(MEASURED) else "told"


def _init(name: str, driver: dict) -> tuple[dict[tuple, object], float]:
    """Leaves of the contract that `rewact contract init` makes, and its seconds, check included."""
    with tempfile.TemporaryDirectory() as folder:
        out, data = Path(folder) / f"{name}.yaml", Path(folder) / "data"
        _write_info(data, name, driver)
        environment = {**os.environ, "ROS_DOMAIN_ID": str(60 + os.getpid() % 40)}
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        fake = subprocess.Popen(
            [sys.executable, str(MODELS.parent / "robot_drivers.py"), name],
            stdout=subprocess.PIPE,
            env=environment,
        )
        try:
            assert fake.stdout is not None and fake.stdout.readline() == b"ready\n"
            words = ["--out", str(out), "--graph", "--dataset", str(data), "--robot", name]
            start_s = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "rewact_ros.cli", "contract", "init", *words],
                env=environment, check=True, timeout=LONGEST_S, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            took_s = time.monotonic() - start_s
        finally:
            fake.terminate()
            fake.wait(10)
        return leaves(out), took_s


def _write_info(root: Path, name: str, driver: dict) -> None:
    """What LeRobot writes of a data set that was recorded with the shipped contract."""
    contract = load_contract(share_dir() / "config" / "robots" / f"{name}.yaml")
    features: dict = {
        key: {"dtype": "float32", "shape": [len(names)], "names": list(names)}
        for key, names in (
            ("observation.state", contract.state_names),
            ("action", contract.action_names),
        )
    }
    for camera, about in driver["cameras"].items():
        features[f"observation.images.{camera}"] = {
            "dtype": "video",
            "shape": about["shape"],
            "names": ["height", "width", "channels"],
        }
    info = {
        "codebase_version": "v3.0", "fps": 30, "total_episodes": 1, "total_frames": 10,
        "total_tasks": 1, "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def leaves(path: Path) -> dict[tuple, object]:
    """(path of a key) → value; what is per joint has a leaf for each joint, parts go by topic."""
    found: dict[tuple, object] = {}
    for key, value in strict_yaml.load(path).items():
        if key not in ("observation.state", "action"):
            inner = value.items() if isinstance(value, dict) else [(None, value)]
            found |= {((key,) if name is None else (key, name)): each for name, each in inner}
            continue
        for part in value if isinstance(value, list) else [value]:
            for name, each in part.items():
                where = (key, part["topic"], name)
                if name in ("unit", "position", "velocity", *CHOICES):
                    by_joint = each if isinstance(each, dict) else {"default": each}
                    for joint in part["joints"]:
                        found[(*where, joint)] = by_joint.get(joint, by_joint.get("default"))
                else:
                    found[where] = each
    return found


def _same(key: tuple, shipped: object, made: object) -> bool:
    if isinstance(shipped, list) and isinstance(made, list) and len(shipped) == len(made):
        return all(_same(key, one, other) for one, other in zip(shipped, made, strict=True))
    if isinstance(shipped, int | float) and isinstance(made, int | float):
        loose = 0.25 if set(key) & set(MEASURED) else 1e-4
        return math.isclose(shipped, made, rel_tol=loose, abs_tol=1e-4)
    return shipped == made
