"""Whether the shadow policy lives, told by whoever records it: a dead process cannot tell."""

from rewact_ros.msg import PolicyStatus
from rewact_ros.ros.door import MalformedError, read_message

# It beats at 20 Hz or more; it is a guest on a busy machine, so a beat may come late.
SILENT_S = 2.0


class ShadowWatch:
    """Hears a shadow's heartbeat, as it came over the wire."""

    def __init__(self) -> None:
        self._beat: tuple[bytes, float] | None = None

    def heard(self, data: bytes, now_s: float) -> None:
        """Keep the newest heartbeat; it is decoded when somebody asks."""
        self._beat = data, now_s

    def trouble(self, now_s: float) -> str:
        """What is wrong with the shadow, one line; empty: it predicts."""
        if self._beat is None:
            return "shadow policy: not heard yet"
        data, heard_s = self._beat
        if now_s - heard_s > SILENT_S:
            return f"shadow policy: silent for {now_s - heard_s:.0f} s: dead or stuck"
        try:
            status = read_message(data, PolicyStatus)
        except MalformedError as error:
            return f"shadow policy: {error}"
        return "" if status.ready else f"shadow policy: not ready: {status.reason}"
