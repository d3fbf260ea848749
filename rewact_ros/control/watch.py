"""What motion rests on: fresh joints, a policy that lives, and a supervisor that still wants it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Contract
from rewact_ros.control.modes import Mode
from rewact_ros.tokens import TokenReceiver

FloatArray = NDArray[np.float64]
# An arm lags its commands by what its controller needs, which is a tenth of a second or two.
FOLLOWING_S = 0.3


@dataclass(frozen=True)
class Now:
    """One instant on three clocks: steady (heartbeat, lease), age (contract ages) and ROS time."""

    steady_s: float
    age_s: float
    ros_ns: int


class Freshness:
    """Whether the newest usable message of a topic is young enough to rely on.

    An unusable message (a joint missing, NaN) only tells why, once the usable ones stay away: it
    may be another device's on the same topic, and a joint state names what it is about.

    Args:
        what: the stream, for people.
        max_age_s: how old the newest usable message may be.
        nothing: what is wrong before the first.
    """

    def __init__(self, what: str, max_age_s: float, nothing: str) -> None:
        self._what, self._max_age_s, self._unusable = what, max_age_s, nothing
        self.received_s = -np.inf

    def take(self, received_s: float) -> None:
        """Take note of a usable message."""
        self.received_s, self._unusable = received_s, ""

    def take_fault(self, reason: str) -> None:
        """Take note of an unusable message."""
        self._unusable = reason

    def fault(self, now_s: float) -> str:
        """Why the stream cannot be relied on, or an empty string."""
        age_s = now_s - self.received_s
        if age_s <= self._max_age_s:
            return ""
        old = f"{self._what} is {age_s:.2f} s old, limit {self._max_age_s:g} s"
        return self._unusable or old


class Joints:
    """Measured positions of the commanded joints, and whether they can be relied on."""

    def __init__(self, contract: Contract) -> None:
        parts = [contract.state[i] for i in contract.measuring]
        limit_s = min(part.max_age_s for part in parts)
        # One topic may hold several parts; `received_s` is the oldest's, whichever that is.
        topics = ", ".join(dict.fromkeys(f"{part.topic} ({part.type})" for part in parts))
        nothing = f"no joint state received yet on {topics}"
        self._fresh = Freshness("joint state", limit_s, nothing)
        self.measured: FloatArray | None = None

    def take(self, positions: FloatArray, received_s: float) -> None:
        """Take positions (A,) in action order; `received_s` is when the oldest of them came in."""
        self.measured = positions
        self._fresh.take(received_s)

    def take_fault(self, reason: str) -> None:
        """Take note of an unusable joint state (joint missing, NaN)."""
        self._fresh.take_fault(reason)

    def fault(self, now: Now) -> str:
        """Why the joints cannot be relied on, or an empty string."""
        return self._fresh.fault(now.age_s)


class Following:
    """Whether the robot is where it was told to be, within the contract's `max_following_error`.

    An arm that an emergency stop, an obstacle or a driver holds back is left behind by its
    commands, and would go to them in one leap as soon as it may.
    """

    def __init__(self, contract: Contract) -> None:
        self._limit = contract.following
        self._names = contract.action_names
        self._watched = bool(np.isfinite(self._limit).any())
        self._near_s = -np.inf

    def fault(self, sent: FloatArray | None, measured: FloatArray | None, now: Now) -> str:
        """Which joint has been too far from its commands for too long, or an empty string.

        Args:
            sent: last command (A,); None: none is sent now.
            measured: positions (A,).
        """
        if not self._watched:
            return ""
        if measured is None or sent is None:
            self._near_s = now.steady_s
            return ""
        share = np.abs(sent - measured) / self._limit
        i = int(np.argmax(share))
        if share[i] <= 1:
            self._near_s = now.steady_s
            return ""
        if now.steady_s - self._near_s <= FOLLOWING_S:
            return ""
        return (
            f"{self._names[i]} does not follow: commanded {sent[i]:.3f}, measured "
            f"{measured[i]:.3f} for {FOLLOWING_S:g} s, max_following_error {self._limit[i]:g}"
        )


class Heartbeat:
    """Whether the policy lives and is ready, by its heartbeat."""

    def __init__(self, timeout_s: float) -> None:
        nothing = "policy: no heartbeat received yet on rewact/policy_status"
        self._fresh = Freshness("policy heartbeat", timeout_s, nothing)
        self._unready = ""

    def take(self, fault: str, now: Now) -> None:
        """Take a heartbeat; `fault` is empty while the policy is ready."""
        self._fresh.take(now.steady_s)
        self._unready = f"policy: {fault}" if fault else ""

    def silence(self, now: Now) -> str:
        """Why the policy cannot lead, or an empty string."""
        return self._fresh.fault(now.steady_s) or self._unready


class Lease:
    """The supervisor's wish for motion, which expires unless it is renewed.

    Its holder's name is public. Where the holder promises a token, only the next token renews the
    lease, so that nobody goes on for a supervisor that has died. `changed_hands` says that the last
    message began a lease of another, after the one before had expired.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._renewed_s = -np.inf
        self._sender = TokenReceiver()
        self.changed_hands = False
        self.mode = Mode.HOLD
        self.holder, self.request = "", 0

    def take(
        self, mode: Mode, holder: str, request: int, now: Now, proof: str = "", promised: str = ""
    ) -> str:
        """Take or renew it; returns why it was refused, or an empty string.

        Args:
            proof, promised: `proof` and `next` of the message, see `rewact_ros.tokens`.
        """
        self.changed_hands = False
        if not (self.holder == holder and self._sender.take(proof, promised)):
            if not self.expired(now):
                other = f"lease is held by {self.holder}"
                return f"{other}; another uses its name" if self.holder == holder else other
            self._sender, self.changed_hands = TokenReceiver(promised), True
        self.mode, self.holder, self.request = mode, holder, request
        self._renewed_s = now.steady_s
        return ""

    def expired(self, now: Now) -> bool:
        """Whether nobody renewed it in time."""
        return now.steady_s - self._renewed_s > self._timeout_s
