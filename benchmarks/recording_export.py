"""Export speed and memory beside LeRobot's own recorder, and live/bag parity.

`rewact bench recording` calls `export_speed` and `parity`. Run as a script, this file is the child
process that writes one dataset, so that every way has its own memory.

All ways read the same bag (real G1 videos, 480x640, raw images) through the same reader and encode
with the same settings (LeRobot's defaults: AV1, CRF 30), on all cores:

- ours: `rewact export`;
- lerobot: `LeRobotDataset.add_frame` and `save_episode` as shipped (a PNG per frame, then encoded);
- lerobot_streaming: the same with `streaming_encoding=True`.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import typer

from rewact_ros.bench.figures import Figure
from rewact_ros.share import share_dir

WAYS = ("ours", "lerobot", "lerobot_streaming")
TICKS = 1500


def export_speed(quick: bool) -> dict[str, Figure]:
    """Frames per second and peak memory of every way, and how memory grows with the episode.

    A quick run takes 100 frames once, a full one whole episodes three times.
    """
    data = Path(os.environ.get("REWACT_DATA", share_dir().parent / "shared" / "data")) / "g1_bottle"
    if not data.is_dir():
        typer.echo(f"  export: no videos at {data}; set REWACT_DATA")
        return {}
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bag, frames = _bag(data, folder, 100 if quick else None)
        results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for repeat in range(1 if quick else 3):
            for way in WAYS:
                out = folder / f"{way}-{repeat}"
                results[way].append(_measure(way, bag, out))
        for way, runs in results.items():
            speeds = [frames / run["seconds"] for run in runs]
            peaks = [run["extra_mb"] for run in runs]
            figures[f"export_{way}"] = _middle(speeds, "frames/s")
            figures[f"export_{way}_memory"] = _middle(peaks, "MB beside the libraries")
        ratios = [
            theirs["seconds"] / ours["seconds"]
            for ours, theirs in zip(results["ours"], results["lerobot"], strict=True)
        ]
        figures["export_over_lerobot"] = _middle(ratios, "ratio")
        figures |= _memory_growth(folder, quick)
    for key, figure in figures.items():
        typer.echo(f"  {key}: {figure.value:.4g} {figure.unit}")
    return figures


def _memory_growth(folder: Path, quick: bool) -> dict[str, Figure]:
    """Peak memory of exporting an episode, and of one ten times as long (small images)."""
    lengths = (200, 2000) if quick else (1000, 10_000)
    peaks = []
    for frames in lengths:
        bag = folder / f"long-{frames}"
        _write(bag, _robot(frames, jitter=False))
        peaks.append(_measure("ours", bag, folder / f"long-out-{frames}")["extra_mb"])
    extra = 1e3 * (peaks[1] - peaks[0]) / (lengths[1] - lengths[0])
    return {
        "export_memory_per_further_frame": Figure(
            extra, "kB (its two images have 55)", "≈ 0", lengths[1]
        )
    }


def _bag(data: Path, folder: Path, frames: int | None) -> tuple[Path, int]:
    """The first episode as a recording; returns it and its number of frames."""
    from rewact_ros.contract.frames import NANO
    from rewact_ros.data.bags.episode_file import read_episode
    from rewact_ros.data.bags.from_dataset import write_bags
    from rewact_ros.data.bags.from_dataset_settings import BagsSettings

    contract = share_dir() / "config" / "robots" / "g1.yaml"
    settings = BagsSettings(data, contract, folder / "bags", (0,), "success")
    (bag,) = write_bags(settings, progress=False)
    record = read_episode(bag)
    total = record.topics["/head_camera/image_raw"]["received"]
    if frames is None or frames >= total:
        return bag, total
    from dataclasses import replace

    from rewact_ros.data.bags.episode_file import write_episode

    end_ns = record.running_ns + round((frames - 0.5) * NANO / 30)
    write_episode(bag, replace(record, ended_ns=end_ns))
    return bag, frames


def _measure(way: str, bag: Path, out: Path) -> dict[str, float]:
    command = [sys.executable, __file__, way, str(bag), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{way} ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _middle(values: list[float], unit: str) -> Figure:
    return Figure(float(np.median(values)), unit, "", len(values), min(values), max(values))


def write_dataset(way: str, bag: Path, out: Path) -> None:
    """What the child process does."""
    from rewact_ros.data.export.run import export
    from rewact_ros.data.export.settings import ExportSettings

    if way == "ours":
        export(ExportSettings((bag,), out, contract=_contract_of(bag), workers=1), progress=False)
        return
    import av
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from rewact_ros.data.bags.reader import Bag
    from rewact_ros.data.export.assemble import COLUMNS
    from rewact_ros.data.export.labels import label_steps
    from rewact_ros.data.export.sources import episodes_of, open_recording
    from rewact_ros.data.export.steps import StepReader

    av.logging.set_libav_level(av.logging.ERROR)
    recording = open_recording(bag, None, None)
    contract = recording.contract
    dataset = LeRobotDataset.create(
        "local/lerobot",
        round(contract.rate_hz),
        {**contract.dataset_features(), **COLUMNS},
        root=out,
        robot_type=contract.robot,
        streaming_encoding=way == "lerobot_streaming",
    )
    with Bag(bag) as opened:
        (span,) = episodes_of(recording, opened)
        for step in StepReader(opened, contract, span.start_ns, span.end_ns, 1.75).steps():
            known = label_steps("success", np.zeros(1), 1.0, np.array([step.mode]), 30.0, 0.5)
            dataset.add_frame(
                {
                    **step.values,
                    "action": step.action,
                    "next.reward": known.reward,
                    "next.done": np.zeros(1, bool),
                    "next.success": known.success,
                    "demo_is_pad": known.pad,
                    "intervention": known.intervention,
                    "control_mode": np.array([step.mode]),
                    "predicted_reward": np.float32([step.predicted_reward]),
                    "policy_version": step.policy_version,
                    "task": span.task,
                }
            )
    dataset.save_episode()
    dataset.finalize()


def _contract_of(bag: Path) -> Path | None:
    """The simulated arm's, for recordings without a contract of their own."""
    own = (bag / "episode.json").is_file()
    return None if own else share_dir() / "config" / "robots" / "vx300s.yaml"


# Parity ---------------------------------------------------------------------------------------


def parity(ticks: int = TICKS) -> dict[str, Figure]:
    """Observations that the live path and the bag path make of the same messages.

    Two cameras and joints, every stream with jitter, late and lost messages. Live: as the policy
    node does, messages deserialised by ROS into its assembler with the ages of reception; bag:
    written to MCAP and read by the exporter. Compared bit for bit.
    """
    from rewact_ros.contract import load_contract

    contract = load_contract(share_dir() / "config" / "robots" / "vx300s.yaml")
    messages = sorted(_robot(ticks, jitter=True), key=lambda item: item[1])
    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder) / "bag"
        _write(bag, messages)
        recorded = _from_bag(bag, contract)
    live = _from_live(messages, contract)
    different = set(live) ^ set(recorded)
    for stamp in set(live) & set(recorded):
        same = live[stamp].keys() == recorded[stamp].keys() and all(
            np.array_equal(value, recorded[stamp][key]) for key, value in live[stamp].items()
        )
        if not same:
            different.add(stamp)
    figures = {
        "parity_observations": Figure(len(live), "of that many ticks", "", ticks),
        "parity_different": Figure(len(different), "observations", "0", ticks),
    }
    for key, figure in figures.items():
        typer.echo(f"  {key}: {figure.value} {figure.unit}")
    return figures


def _robot(frames: int, jitter: bool) -> Iterator[tuple[str, int, Any]]:
    """(topic, time of recording in ns, message) of the simulated arm's topics."""
    from rewact_ros.contract import load_contract
    from rewact_ros.ros.commands import command_encoder
    from rewact_ros.ros.convert import joint_state_message, to_stamp
    from rewact_ros.ros.images import image_message

    contract = load_contract(share_dir() / "config" / "robots" / "vx300s.yaml")
    names, rng = contract.state_names, np.random.default_rng(0)
    encode = command_encoder(contract.action[0])
    period_ns, start_ns = round(1e9 / contract.rate_hz), 1_700_000_000_000_000_000

    def recorded(topic: str, ns: int, message: Any) -> Iterator[tuple[str, int, Any]]:
        late_ns = 1_000_000 + (int(rng.exponential(6e6)) if jitter else 0)
        if not (jitter and rng.random() < 0.03):
            yield topic, ns + late_ns, message

    for k in range(frames):
        for camera in contract.cameras:
            ns = start_ns + k * period_ns + (int(rng.uniform(0, 5e6)) if jitter else 0)
            image = rng.integers(0, 255, camera.shape, dtype=np.uint8)
            yield from recorded(
                f"/{camera.topic}", ns, image_message(image, to_stamp(ns), camera.name)
            )
        for part in (0, 1, 2):
            ns = start_ns + k * period_ns + part * period_ns // 3
            values = rng.normal(size=len(names))
            joints = joint_state_message(names, "position", values, to_stamp(ns))
            yield from recorded("/joint_states", ns, joints)
            command = encode(values, to_stamp(ns))
            yield from recorded("/arm/commands", ns, command)


def _write(folder: Path, messages: Any) -> None:
    from rclpy.serialization import serialize_message
    from rosbags.rosbag2 import StoragePlugin, Writer

    from rewact_ros.data.bags.reader import typestore

    store, connections = typestore(), {}
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, ns, message in messages:
            kind = type(message)
            if topic not in connections:
                name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
                connections[topic] = writer.add_connection(topic, name, typestore=store)
            writer.write(connections[topic], ns, serialize_message(message))


def _from_bag(path: Path, contract: Any) -> dict[int, dict[str, Any]]:
    from rewact_ros.contract import Frame
    from rewact_ros.data.bags.frames import BagFrames
    from rewact_ros.data.bags.reader import Bag

    made: dict[int, dict[str, Any]] = {}
    with Bag(path) as bag:
        frames = BagFrames(bag, contract, ages=True)
        for message in bag.messages(frames.topics):
            made |= {f.stamp_ns: f.values for f in frames.put(message) if isinstance(f, Frame)}
    return made


def _from_live(messages: Any, contract: Any) -> dict[int, dict[str, Any]]:
    from rclpy.serialization import deserialize_message, serialize_message

    from rewact_ros.contract import Frame, FrameAssembler, state_stream
    from rewact_ros.ros.images import camera_sample
    from rewact_ros.ros.states import state_sample

    assembler, made = FrameAssembler(contract), {}
    cameras = {f"/{camera.topic}": camera for camera in contract.cameras}
    for topic, ns, sent in messages:
        message = deserialize_message(serialize_message(sent), type(sent))
        if topic in cameras:
            assembler.put(cameras[topic].key, camera_sample(cameras[topic], message, ns / 1e9))
        elif topic == "/joint_states":
            assembler.put(state_stream(0), state_sample(contract.state[0], message, ns / 1e9))
        else:
            continue
        frame = assembler.assemble(ns / 1e9, ns)
        if isinstance(frame, Frame):
            made[frame.stamp_ns] = frame.values
    return made


def main() -> None:
    """Child process: write one dataset, print seconds and peak memory."""
    way, bag, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    import rewact_ros.data.export.run  # noqa: F401  (LeRobot and torch: not part of time and memory)

    loaded_mb, begin_s = _peak_mb(), time.monotonic()
    write_dataset(way, bag, out)
    seconds = time.monotonic() - begin_s
    print(json.dumps({"seconds": seconds, "extra_mb": _peak_mb() - loaded_mb}))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
