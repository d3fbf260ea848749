"""Figures of the recorder: what it loses, what it costs, and what a kill or a full disk leaves.

Sources and recorder are processes of their own in a ROS domain of their own. Lost messages are what
was published minus what the finished recording holds.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import rclpy
from mcap.reader import make_reader
from rclpy.node import Node
from rosbags.highlevel import AnyReader
from rosbags.serde import SerdeError
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore
from std_srvs.srv import Trigger

from rewact_ros.bringup import transport_environment
from rewact_ros.cli.bench import Bench
from rewact_ros.cli.domain import own_domain
from rewact_ros.cli.rig_stack import cpu_seconds, memory_mb
from rewact_ros.data.bag_recovery import recover_bag
from rewact_ros.data.bags import Bag, BagError
from rewact_ros.data.episode_file import EPISODE_FILE, read_episode
from rewact_ros.msg import RecorderStatus
from rewact_ros.ros import interfaces as names

SOURCE = Path(__file__).with_name("recording_source.py")
TIMEOUT_S, ANSWER_S = 60.0, 5.0


@dataclass(frozen=True)
class Amount:
    """How much is measured: seconds of each load, and kills."""

    raw_s: float
    compressed_s: float
    long_s: float
    kills: int


FULL, QUICK = Amount(120.0, 60.0, 600.0, 50), Amount(6.0, 4.0, 0.0, 2)


def run(bench: Bench) -> None:
    """Measure everything; `--quick` takes about a minute."""
    amount = QUICK if bench.quick else FULL
    bench.settings |= {"camera": "640x480 rgb8 at 30 Hz", "joints": "7 at 100 Hz"}
    with _domain(), tempfile.TemporaryDirectory(dir=bench.folder) as folder:
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
        _kills(bench, amount.kills, room / "kills")
        _full_disk(bench, room / "full")
    _other_parts(bench)


def _other_parts(bench: Bench) -> None:
    """Exporting recordings, and learning from interventions; the latter takes hours."""
    from recording_dagger import hg_dagger
    from recording_export import export_speed, parity

    for measured in (parity(), export_speed(bench.quick)):
        for name, figure in measured.items():
            bench.add(name, **asdict(figure))
    if not bench.quick:
        hg_dagger(bench)


def _load(
    bench: Bench, name: str, load: str, seconds: float, bags: Path, *extra: str, keep_files: int = 0
) -> Path:
    """Record one load; the folder of the recording.

    `keep_files`: delete all but so many finished files of the recording while it goes on, so that
    more can be written than fits; then the counts of the episode stand for the messages.
    """
    with _recorder(bags, *extra) as (pid, remote), _source(load, seconds) as source:
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
        folder = _finished(bags)
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


def _kills(bench: Bench, n: int, bags: Path) -> None:
    """Kill recorders at random moments; what their recordings lack at the end once mended.

    Half of them record a camera, whose chunks fill at once; the others joints alone, whose chunks
    are closed by time.
    """
    draw, opened, lost_s, gaps = random.Random(0), 0, [], 0
    for load in ("one", "joints"):
        with _source(load, 0.0) as source:
            for i in range(n // 2):
                place = bags / f"{load}_{i}"
                with _recorder(place) as (pid, remote):
                    if i == 0:
                        source.begin()
                    remote.call("start")
                    time.sleep(draw.uniform(0.3, 3.0))
                    killed_ns = time.time_ns()
                    os.kill(pid, signal.SIGKILL)
                (folder,) = (path.parent for path in place.glob(f"*/{EPISODE_FILE}"))
                try:
                    recover_bag(folder)
                    end_ns, missing = _end_of(folder)
                except (BagError, ValueError, OSError):
                    continue
                opened += 1
                lost_s.append((killed_ns - end_ns) / 1e9)
                gaps += missing
                shutil.rmtree(place)
    bench.add("kills_reopened", opened, "recordings", goal=str(n), n=n)
    bench.add("kill_lost_p50", float(np.median(lost_s)), "s", goal="≤ 1", n=len(lost_s))
    bench.add("kill_lost_max", max(lost_s), "s", goal="≤ 1", n=len(lost_s))
    bench.add("kill_gaps", gaps, "messages missing before the end", goal="0", n=len(lost_s))


def _end_of(folder: Path) -> tuple[int, int]:
    """Last log time, and joint messages that are missing before the last one."""
    with Bag(folder) as bag:
        end_ns = max(m.logged_ns for m in bag.messages(bag.topics))
    sequences = []
    for path in folder.glob("*.mcap"):
        with open(path, "rb") as file:
            for _, channel, message in make_reader(file, validate_crcs=True).iter_messages():
                if channel.topic == "/joint_states":
                    sequences.append(message.sequence)
    return end_ns, max(sequences) - min(sequences) + 1 - len(set(sequences))


def _full_disk(bench: Bench, bags: Path) -> None:
    """The largest allowed file is 100 MB: writing beyond it fails as on a full disk."""
    limit = 100_000_000
    with _recorder(bags, limit=limit) as (_, remote), _source("raw", 5.0) as source:
        remote.call("start")
        source.begin()
        while source.running:
            time.sleep(0.1)
        folder = _finished(bags)
        said = remote.text()
    record = read_episode(folder)
    got = sum(n["received"] for n in record.topics.values())
    size = sum(path.stat().st_size for path in folder.glob("*.mcap"))
    bench.settings["full_disk"] = f"{record.termination_reason}; status: {said}"
    bench.add("full_disk_decoded", _read_own(folder) / got, "share", goal="1", n=got)
    bench.add("full_disk_used", size / limit, "share", goal="near 1")


# Processes ----------------------------------------------------------------------------------


class _Remote(Node):
    """Calls a recorder and hears its status."""

    def __init__(self) -> None:
        super().__init__("bench_recording")
        self.status: RecorderStatus | None = None
        self.create_subscription(RecorderStatus, names.RECORDER_STATUS, self._keep, names.LATCHED)

    def _keep(self, msg: RecorderStatus) -> None:
        self.status = msg

    def until(self, condition: Callable[[], object]) -> None:
        end_s = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end_s:
                raise RuntimeError("bench recording: the recorder does not answer")
            rclpy.spin_once(self, timeout_sec=0.05)

    def text(self) -> str:
        self.status = None
        self.until(lambda: self.status)
        assert self.status is not None
        return self.status.text

    def call(self, action: str) -> None:
        """Start or stop; a request that discovery lost is sent again."""
        wanted = action == "start"
        if wanted:  # once it hears the source
            self.until(lambda: self.status and "/joint_states" in self.status.topics)
        client = self.create_client(Trigger, f"/recorder/{action}")
        self.until(client.service_is_ready)
        client.call_async(Trigger.Request())
        sent_s = time.monotonic()

        def done() -> bool:
            nonlocal sent_s
            if time.monotonic() - sent_s > ANSWER_S:
                sent_s = time.monotonic()
                client.call_async(Trigger.Request())
            return self.status is not None and self.status.recording == wanted

        self.until(done)
        self.destroy_client(client)


@contextmanager
def _recorder(bags: Path, *extra: str, limit: int = 0) -> Iterator[tuple[int, _Remote]]:
    command = [sys.executable, "-m", "rewact_ros.nodes.recorder", "--ros-args"]
    settings = (f"bags_dir:={bags}", "topics:=/camera_.*|/joint_states", "min_free_gb:=1.0")
    for setting in (*settings, *extra):
        command += ["-p", setting]

    def bind() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = subprocess.Popen(
        command, env={**os.environ, **transport_environment()}, preexec_fn=bind,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    remote = _Remote()
    try:
        yield process.pid, remote
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(TIMEOUT_S)
        remote.destroy_node()


class _Source:
    """A running source; its output is read as it comes."""

    def __init__(self, load: str, seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SOURCE), load, str(seconds)],
            env={**os.environ, **transport_environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == "listening":
                self._listening.set()
            else:
                self._lines.append(line)

    def begin(self) -> None:
        if not self._listening.wait(TIMEOUT_S):
            raise RuntimeError("bench recording: nothing listens to the source")
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def sent(self) -> dict[str, int]:
        return {topic: int(n) for topic, n in (line.split() for line in self._lines)}


@contextmanager
def _source(load: str, seconds: float) -> Iterator[_Source]:
    source = _Source(load, seconds)
    try:
        yield source
    finally:
        source.process.terminate()
        try:
            source.process.wait(5.0)
        except subprocess.TimeoutExpired:
            source.process.kill()


@contextmanager
def _domain() -> Iterator[None]:
    had = os.environ.pop("ROS_DOMAIN_ID", None)
    lock = own_domain()
    rclpy.init()
    try:
        yield
    finally:
        rclpy.shutdown()
        lock.release()
        os.environ.pop("ROS_DOMAIN_ID", None)
        if had is not None:
            os.environ["ROS_DOMAIN_ID"] = had


def _finished(bags: Path) -> Path:
    """Folder of the only episode, once it is closed."""
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        for path in bags.glob(f"*/{EPISODE_FILE}"):
            if read_episode(path.parent).ended_ns is not None:
                return path.parent
        time.sleep(0.1)
    raise RuntimeError(f"bench recording: no episode was finished in {bags}")


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns


def _bytes_of(topic: str, n: int) -> float:
    sizes = {"/joint_states": 250, "compressed": 60_000}
    return n * next((size for key, size in sizes.items() if key in topic), 640 * 480 * 3)
