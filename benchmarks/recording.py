"""Figures of the recorder: what it loses, what it costs, and what a full disk leaves.

Sources and recorder are processes of their own in a ROS domain of their own. Lost messages are what
was published minus what the finished recording holds. What a kill costs is in `recording_kills.py`,
what is learned from recordings in `recording_dagger.py`.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from mcap.reader import make_reader
from recording_export import export_speed, parity
from recording_stack import domain, finished_recording, recorder, source_of
from rosbags.highlevel import AnyReader
from rosbags.serde import SerdeError
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

from rewact_ros.bench.figures import Bench
from rewact_ros.data.bags.episode_file import read_episode
from rewact_ros.data.bags.reader import Bag
from rewact_ros.stack.rig_stack import cpu_seconds, memory_mb


@dataclass(frozen=True)
class Amount:
    """How much is measured: seconds of each load."""

    raw_s: float
    compressed_s: float
    long_s: float


FULL, QUICK = Amount(120.0, 60.0, 600.0), Amount(6.0, 4.0, 0.0)


def run(bench: Bench) -> None:
    """Measure everything; `--quick` takes about a minute."""
    amount = QUICK if bench.quick else FULL
    bench.settings |= {"camera": "640x480 rgb8 at 30 Hz", "joints": "7 at 100 Hz"}
    with domain(), tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        room = Path(folder)
        kept = _load(bench, "raw", "raw", amount.raw_s, room / "raw")
        _readers(bench, kept)
        shutil.rmtree(room / "raw")
        _load(bench, "compressed", "compressed", amount.compressed_s, room / "compressed")
        _load(bench, "raw_zstd", "raw", amount.compressed_s, room / "zstd", "compression:=zstd")
        shutil.rmtree(room / "zstd")
        if amount.long_s:
            rotating = ("max_bag_mb:=500",)
            _load(bench, "long", "raw", amount.long_s, room / "long", *rotating, keep_files=2)
            shutil.rmtree(room / "long")
        _full_disk(bench, room / "full")
    for measured in (parity(), export_speed(bench.quick)):
        for name, figure in measured.items():
            bench.add(name, **asdict(figure))


def _load(
    bench: Bench, name: str, load: str, seconds: float, bags: Path, *extra: str, keep_files: int = 0
) -> Path:
    """Record one load; the folder of the recording.

    `keep_files`: delete all but so many finished files of the recording while it goes on, so that
    more can be written than fits; then the counts of the episode stand for the messages.
    """
    with recorder(bags, *extra) as (pid, remote), source_of(load, seconds) as source:
        remote.call("start")
        source.begin()
        cpu_s, begun_s = cpu_seconds(pid), time.monotonic()
        memory = []
        while source.running:
            time.sleep(0.5)
            memory.append(memory_mb(pid))
            if keep_files:
                for path in sorted(bags.glob("*/*.mcap"), key=_age)[:-keep_files]:
                    path.unlink()
        wall_s = time.monotonic() - begun_s
        cpu = (cpu_seconds(pid) - cpu_s) / wall_s * 100
        remote.call("stop")
        folder = finished_recording(bags)
    record = read_episode(folder)
    got = {topic: n["received"] for topic, n in record.topics.items()}
    sent = source.sent()
    lost = {topic: n - got.get(topic, 0) for topic, n in sent.items()}
    counted = sum(record.topics[topic]["dropped"] for topic in sent if topic in record.topics)
    megabytes = sum(_bytes_of(topic, n) for topic, n in sent.items()) / 1e6
    total = sum(sent.values())
    bench.add(f"{name}_lost", sum(lost.values()), "messages", goal="0", n=total)
    bench.add(f"{name}_lost_uncounted", sum(lost.values()) - counted, "messages", goal="0", n=total)
    bench.add(f"{name}_sent_rate", total / seconds, "1/s", n=total)
    bench.add(f"{name}_written", megabytes / seconds, "MB/s", n=total)
    bench.add(f"{name}_cpu", cpu, "% of a core", n=round(wall_s))
    bench.add(f"{name}_memory_end", memory[-1], "MB", n=len(memory), low=min(memory),
              high=max(memory))  # fmt: skip
    bench.settings[f"{name}_memory_curve"] = (
        " ".join(f"{m:.0f}" for m in memory[:: max(len(memory) // 12, 1)]) + " MB"
    )
    return folder


def _readers(bench: Bench, folder: Path) -> None:
    """Every message of one recording through each independent reader."""
    expected = sum(n["received"] for n in read_episode(folder).topics.values())
    readers: dict[str, Callable[[Path], int]] = {
        f"mcap {version('mcap')}": _read_mcap,
        f"rosbags {version('rosbags')}": _read_rosbags,
        "rewact_ros Bag": _read_own,
    }
    bench.settings["readers"] = ", ".join(readers)
    for name, read in readers.items():
        decoded = read(folder)
        label = name.split()[0]
        bench.add(f"decoded_by_{label}", decoded / expected, "share", goal="1", n=expected)


def _read_mcap(folder: Path) -> int:
    """The mcap library's reader, decoding by the definitions that it finds in the file."""
    count, stores = 0, {}
    for path in folder.glob("*.mcap"):
        with open(path, "rb") as file:
            reader = make_reader(file, validate_crcs=True)
            for schema, _, message in reader.iter_messages():
                if schema.name not in stores:
                    stores[schema.name] = Typestore()
                    types = get_types_from_msg(schema.data.decode(), schema.name)
                    stores[schema.name].register(types)
                count += _decodes(stores[schema.name], message.data, schema.name)
    return count


def _read_rosbags(folder: Path) -> int:
    with AnyReader([folder]) as reader:
        found = reader.messages()
        return sum(_decodes(reader.typestore, raw, c.msgtype) for c, _, raw in found)


def _decodes(store: Typestore, data: bytes | memoryview, type_name: str) -> bool:
    try:
        store.deserialize_cdr(data, type_name)
    except (SerdeError, IndexError, ValueError):
        return False
    return True


def _read_own(folder: Path) -> int:
    with Bag(folder) as bag:
        return sum(1 for _ in bag.messages(bag.topics))


def _full_disk(bench: Bench, bags: Path) -> None:
    """The largest allowed file is 100 MB: writing beyond it fails as on a full disk."""
    limit = 100_000_000
    with recorder(bags, limit=limit) as (_, remote), source_of("raw", 5.0) as source:
        remote.call("start")
        source.begin()
        while source.running:
            time.sleep(0.1)
        folder = finished_recording(bags)
        said = remote.text()
    record = read_episode(folder)
    got = sum(n["received"] for n in record.topics.values())
    size = sum(path.stat().st_size for path in folder.glob("*.mcap"))
    bench.settings["full_disk"] = f"{record.termination_reason}; status: {said}"
    bench.add("full_disk_decoded", _read_own(folder) / got, "share", goal="1", n=got)
    bench.add("full_disk_used", size / limit, "share", goal="near 1")


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns


def _bytes_of(topic: str, n: int) -> float:
    sizes = {"/joint_states": 250, "compressed": 60_000}
    return n * next((size for key, size in sizes.items() if key in topic), 640 * 480 * 3)
