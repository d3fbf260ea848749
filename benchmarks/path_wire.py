"""What a robot's topics tell about the way from image to command, by the senders' own times."""

from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from rewact_ros.contract import Contract
from rewact_ros.msg import ActionChunk, ControlStatus, SimTruth
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import command_type
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.loop import SERVE_AHEAD_S

SERVE_AHEAD_NS = round(SERVE_AHEAD_S * 1e9)
FloatArray = np.ndarray


@dataclass(frozen=True)
class ChunkSeen:
    """One chunk: stamp of its image, when the policy sent it, and what it says of itself."""

    stamp_ns: int
    sent_ns: int
    queue_s: float
    inference_s: float


@dataclass
class Wire:
    """Listens from its creation on; times are of the system clock, when a sender sent."""

    contract: Contract
    chunks: list[ChunkSeen] = field(default_factory=list)
    commands_ns: list[int] = field(default_factory=list)
    modes: list[tuple[int, int]] = field(default_factory=list)
    truths_ns: list[int] = field(default_factory=list)
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)
    diagnoses: int = 0

    def listen(self, node: Node) -> "Wire":
        """Subscribe on a node that somebody else spins."""
        part = self.contract.action[0]
        node.create_subscription(command_type(part), part.topic, self._on_command, names.EVENTS)
        node.create_subscription(ActionChunk, names.ACTION_CHUNK, self._on_chunk, names.EVENTS)
        node.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED
        )
        node.create_subscription(SimTruth, names.SIM_TRUTH, self._on_truth, names.EVENTS)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        return self

    def _on_command(self, message, info: dict[str, int]) -> None:  # type: ignore[no-untyped-def]
        self.commands_ns.append(info["source_timestamp"])

    def _on_chunk(self, message: ActionChunk, info: dict[str, int]) -> None:
        stamp_ns, sent_ns = to_ns(message.header.stamp), info["source_timestamp"]
        seen = ChunkSeen(stamp_ns, sent_ns, message.queue_time, message.inference_time)
        self.chunks.append(seen)

    def _on_control(self, message: ControlStatus, info: dict[str, int]) -> None:
        self.modes.append((info["source_timestamp"], message.mode))

    def _on_truth(self, message: SimTruth) -> None:
        self.truths_ns.append(to_ns(message.header.stamp))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {v.key: v.value for v in status.values}
            self.diagnoses += status.name.endswith("/policy")

    # Figures ----------------------------------------------------------------------------------

    def stamp_to_chunk_ms(self, since_ns: int) -> FloatArray:
        """Of every chunk after a time, until the policy handed it to the middleware."""
        chunks = [c for c in self.chunks if c.stamp_ns > since_ns]
        return np.array([c.sent_ns - c.stamp_ns for c in chunks]) / 1e6

    def stamp_to_command_ms(self, since_ns: int) -> FloatArray:
        """Until hil handed the first command over that a chunk can have had a part in.

        That is the first one sent at least `SERVE_AHEAD_S` after the chunk, for so long before
        each command hil looks at its inputs. Chunks while hil did not follow the policy are out.
        """
        commands = np.array(self.commands_ns)
        switches = np.array([ns for ns, _ in self.modes])
        found = []
        for chunk in self.chunks:
            place = np.searchsorted(commands, chunk.sent_ns + SERVE_AHEAD_NS)
            mode = np.searchsorted(switches, chunk.sent_ns) - 1
            follows = mode >= 0 and self.modes[mode][1] == ControlStatus.POLICY
            if chunk.stamp_ns > since_ns and place < len(commands) and follows:
                found.append((int(commands[place]) - chunk.stamp_ns) / 1e6)
        return np.array(found)

    def intervals_ms(self, since_ns: int) -> FloatArray:
        """Between consecutive commands."""
        return np.diff([ns for ns in self.commands_ns if ns > since_ns]) / 1e6
