"""A recorded episode on a robot's topics, and what the running stack made of it."""

import json
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.table import Table
from std_srvs.srv import Trigger

from rewact_ros.contract import Contract, ContractError
from rewact_ros.control.chunks import ChunkError
from rewact_ros.data.dataset.episodes import RecordedEpisode
from rewact_ros.msg import ActionChunk, ControlStatus, ModeRequest, PolicyStatus, Reward
from rewact_ros.reward.metrics import spearman
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.chunk_reader import read_chunk
from rewact_ros.ros.company import require_alone
from rewact_ros.ros.convert import to_ns, to_stamp
from rewact_ros.ros.door import Guarded, MalformedError
from rewact_ros.ros.images import camera_message, camera_type
from rewact_ros.ros.states import is_stamped, state_message, state_type

PREFETCH_FRAMES = 60
READY_TIMEOUT_S = 60.0
LEASE_PERIOD_S = 0.1
RECEIPT_S = 0.02  # a message takes 1 ms, on a busy machine more; a frame waits so long at most


@dataclass
class Playback:
    """What the stack answered to one episode; `nan` where nothing came.

    `chunks[i]` is the chunk predicted from frame i, (K, A); `progress[i]` the reward of frame i.
    """

    recorded: RecordedEpisode
    chunks: dict[int, NDArray[np.float64]]
    progress: dict[int, float]
    hil_commands: int
    hil_reason: str
    late_frames: int


class ReplayRobot(Guarded, Node):
    """Publishes recorded frames with their recorded spacing and listens to chunks and rewards."""

    def __init__(self, contract: Contract, look_after: Callable[[], None]) -> None:
        super().__init__("replay")
        self.contract = contract
        self._look_after = look_after
        states = [part.topic for part in contract.state]
        require_alone(self, [*states, *(camera.topic for camera in contract.cameras)])
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._frame_of_stamp: dict[int, int] = {}
        self._chunks: dict[int, NDArray[np.float64]] = {}
        self._progress: dict[int, float] = {}
        self._control: ControlStatus | None = None
        self._policy: PolicyStatus | None = None
        self._cameras = {
            c.key: (c, self.create_publisher(camera_type(c), c.topic, names.SENSOR_OUT))
            for c in contract.cameras
        }
        self._states = [
            (part, self.create_publisher(state_type(part), part.topic, names.SENSOR_OUT))
            for part in contract.state
        ]
        self._requests = self.create_publisher(ModeRequest, names.MODE_REQUEST, names.EVENTS)
        for kind, topic, call, qos in (
            (ActionChunk, names.ACTION_CHUNK, self._on_chunk, names.EVENTS),
            (Reward, names.REWARD, self._on_reward, names.EVENTS),
            (ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED),
            (PolicyStatus, names.POLICY_STATUS, self._on_policy, names.COMMAND),
        ):
            self.create_subscription(kind, topic, call, qos)

    def _on_chunk(self, msg: ActionChunk) -> None:
        frame = self._frame_of_stamp.get(to_ns(msg.header.stamp))
        if frame is not None:
            try:
                self._chunks[frame] = read_chunk(msg, self.contract).positions
            except ChunkError as error:
                raise MalformedError(str(error)) from None

    def _on_reward(self, msg: Reward) -> None:
        frame = self._frame_of_stamp.get(to_ns(msg.header.stamp))
        if frame is not None:
            self._progress[frame] = msg.value

    def _on_control(self, msg: ControlStatus) -> None:
        self._control = msg

    def _on_policy(self, msg: PolicyStatus) -> None:
        self._policy = msg

    def play(
        self, episode: RecordedEpisode, images: Iterator[dict[str, NDArray[np.uint8]]]
    ) -> Playback:
        """Play one episode in real time and collect the answers."""
        frames = _prefetch(images)
        first = next(frames)
        self._frame_of_stamp, self._chunks, self._progress = {}, {}, {}
        self._warm_up(episode, first)
        commands_before = self._control.commands if self._control else 0
        late, lease_s = 0, 0.0
        start_s = time.monotonic()
        for i, pictures in enumerate(_chain(first, frames)):
            due_s = start_s + float(episode.times[i] - episode.times[0])
            while (wait_s := due_s - time.monotonic()) > 0:
                self._executor.spin_once(timeout_sec=wait_s)
                lease_s = self._hold_lease(lease_s)
            late += time.monotonic() - due_s > 0.5 * self.contract.dt_s
            self._publish(i, episode, pictures)
            self._look_after()
        self._drain(len(episode.times) - 1)
        commands = (self._control.commands if self._control else 0) - commands_before
        return Playback(
            recorded=episode,
            chunks=self._chunks,
            progress=self._progress,
            hil_commands=commands,
            hil_reason=self._control.reason if self._control else "no hil",
            late_frames=late,
        )

    def _warm_up(self, episode: RecordedEpisode, first: dict[str, NDArray[np.uint8]]) -> None:
        """Send the first frame until policy and hil are ready, then arm hil (it is in dry-run)."""
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        armed = None
        client = self.create_client(Trigger, "hil/arm")
        while True:
            self._publish(None, episode, first)
            end_s = time.monotonic() + self.contract.dt_s
            while time.monotonic() < end_s:
                self._executor.spin_once(timeout_sec=self.contract.dt_s / 4)
            self._look_after()
            ready = self._policy is not None and self._policy.ready and self._control is not None
            if ready and armed is None and client.service_is_ready():
                armed = client.call_async(Trigger.Request())
            if armed is not None and armed.done():
                if "waiting for the policy" not in armed.result().message:
                    break
                armed = None  # we heard that it is ready a moment before hil did
            if time.monotonic() > deadline_s:
                reason = self._policy.reason if self._policy else "no policy is running"
                raise ContractError(
                    f"replay: the stack is not ready after {READY_TIMEOUT_S:g} s: {reason}"
                )
        self.destroy_client(client)

    def _hold_lease(self, last_s: float) -> float:
        """Ask hil for POLICY as a supervisor would; in dry-run nothing reaches a robot."""
        now_s = time.monotonic()
        if now_s - last_s < LEASE_PERIOD_S:
            return last_s
        self._requests.publish(ModeRequest(mode=ModeRequest.POLICY, holder="replay", request=1))
        return now_s

    def _publish(
        self, index: int | None, episode: RecordedEpisode, pictures: dict[str, NDArray[np.uint8]]
    ) -> None:
        if not all(is_stamped(part) for part in self.contract.state):
            # What has no header counts from when it is received, which is to be before the stamp.
            self._publish_states(episode.state[index or 0], to_stamp(0), stamped=False)
            time.sleep(min(RECEIPT_S, self.contract.dt_s / 4))
        stamp_ns = self.get_clock().now().nanoseconds
        stamp = to_stamp(stamp_ns)
        if index is not None:
            self._frame_of_stamp[stamp_ns] = index
        self._publish_states(episode.state[index or 0], stamp, stamped=True)
        for camera, publisher in reversed(self._cameras.values()):
            frame_id = f"{camera.name}_optical_frame"
            publisher.publish(camera_message(camera, pictures[camera.key], stamp, frame_id))

    def _publish_states(self, row: NDArray[np.float64], stamp: Time, stamped: bool) -> None:
        """The first part last: without a camera, it completes the observation."""
        end = len(row)
        for part, publisher in reversed(self._states):
            values, end = row[end - len(part.joints) : end], end - len(part.joints)
            if is_stamped(part) == stamped:
                publisher.publish(state_message(part, values, stamp))

    def _drain(self, last: int) -> None:
        """Wait for the answer to the last frame."""
        deadline_s = time.monotonic() + 1.0
        while last not in self._progress and time.monotonic() < deadline_s:
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        """Free the node."""
        self._executor.shutdown()
        self.destroy_node()


@dataclass(frozen=True)
class ReplayRow:
    """Figures of one episode; L1 in contract units, mean over joints."""

    episode: int
    frames: int
    answered: int
    late_frames: int
    l1_first_step: float
    l1_chunk: float
    spearman: float
    progress_first: float
    progress_last: float
    hil_commands: int


class ReplayReport:
    """Collects playbacks into one table, one picture and `summary.json`."""

    def __init__(self, folder: Path, contract: Contract) -> None:
        self._folder, self._contract = folder, contract
        self._rows: list[ReplayRow] = []
        self._curves: list[tuple[int, NDArray[np.float64], NDArray[np.float64]]] = []
        # A log file or pipe has no width of its own; 80 columns would cut the words.
        self._console = Console(width=None if sys.stdout.isatty() else 110)

    def add(self, playback: Playback) -> None:
        """Take one episode."""
        action = playback.recorded.action
        first, whole = [], []
        for i, chunk in playback.chunks.items():
            horizon = min(len(chunk), len(action) - i)
            error = np.abs(chunk[:horizon] - action[i : i + horizon])
            first.append(error[0].mean())
            whole.append(error.mean())
        frames = np.array(sorted(playback.progress), dtype=int)
        progress = np.array([playback.progress[i] for i in frames])
        row = ReplayRow(
            episode=playback.recorded.index,
            frames=len(action),
            answered=len(playback.chunks),
            late_frames=playback.late_frames,
            l1_first_step=float(np.mean(first)) if first else math.nan,
            l1_chunk=float(np.mean(whole)) if whole else math.nan,
            spearman=spearman(frames, progress) if len(frames) > 2 else math.nan,
            progress_first=float(progress[0]) if len(progress) else math.nan,
            progress_last=float(progress[-1]) if len(progress) else math.nan,
            hil_commands=playback.hil_commands,
        )
        self._rows.append(row)
        self._curves.append((row.episode, playback.recorded.times[frames], progress))
        self._console.print(
            f"episode {row.episode}: {row.answered}/{row.frames} frames answered, action L1 "
            f"{row.l1_chunk:.4f}, Spearman {row.spearman:.3f}, hil: {playback.hil_reason}",
            markup=False,
        )

    def finish(self) -> None:
        """Print the table, draw progress against time, write `summary.json`."""
        table = Table(title=f"{self._contract.robot}: policy against the recording")
        for field in ReplayRow.__dataclass_fields__:
            table.add_column(field.replace("_", " "), justify="right")
        for row in self._rows:
            values = asdict(row).values()
            table.add_row(*(f"{v:.4f}" if isinstance(v, float) else str(v) for v in values))
        self._console.print(table)
        self._draw()
        rows = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()}
            for r in self._rows
        ]
        (self._folder / "summary.json").write_text(json.dumps({"episodes": rows}, indent=2) + "\n")

    def _draw(self) -> None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
        for episode, times, progress in self._curves:
            axes.plot(times, progress, label=f"episode {episode}")
        axes.set(xlabel="time, s", ylabel="predicted progress", ylim=(-0.03, 1.03))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(self._folder / "progress.png", dpi=100)
        plt.close(figure)


def _prefetch(
    images: Iterator[dict[str, NDArray[np.uint8]]],
) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """Decode ahead in a thread, so that a slow frame does not delay the next ones."""
    ahead: queue.Queue[object] = queue.Queue(maxsize=PREFETCH_FRAMES)

    def decode() -> None:
        try:
            for pictures in images:
                ahead.put(pictures)
            ahead.put(None)
        except Exception as error:
            ahead.put(error)

    threading.Thread(target=decode, name="decode", daemon=True).start()
    while (item := ahead.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item  # type: ignore[misc]


def _chain(
    first: dict[str, NDArray[np.uint8]], rest: Iterator[dict[str, NDArray[np.uint8]]]
) -> Iterator[dict[str, NDArray[np.uint8]]]:
    yield first
    yield from rest
