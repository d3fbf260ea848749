"""What a node tells of the streams that it observes, in its `/diagnostics`, and how others read it.

One entry per stream: key `stream TOPIC`, value a JSON object. Nothing here needs NumPy or ROS.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

KEY = "stream "
# Rates are of the arrivals within the last so many seconds, and of no more than so many.
WINDOW_S, MOST_ARRIVALS = 2.0, 256
# A stream below this share of the contract's rate leaves frames of a dataset without news.
SLOW = 0.9
# No rate or age is larger; a whole number from JSON may have any length.
_LARGEST = 1e15
# From bad to good; where two nodes observe a stream, the worse word counts.
STATES = ("silent", "unusable", "old", "slow", "ok")


class Arrivals:
    """When the last messages of a stream came, in s of one clock."""

    def __init__(self) -> None:
        self._at_s: deque[float] = deque(maxlen=MOST_ARRIVALS)

    def add(self, now_s: float) -> None:
        """One has come; a clock that went back begins anew."""
        if self._at_s and now_s < self._at_s[-1]:
            self._at_s.clear()
        self._at_s.append(now_s)

    def age_s(self, now_s: float) -> float | None:
        """Since the last one; None: none has come."""
        return now_s - self._at_s[-1] if self._at_s else None

    def hz(self, now_s: float) -> float | None:
        """Rate within the window; None: fewer than two came in it."""
        recent = [at_s for at_s in self._at_s if now_s - at_s <= WINDOW_S]
        span_s = recent[-1] - recent[0] if recent else 0.0
        return (len(recent) - 1) / span_s if span_s > 0 else None


@dataclass(frozen=True)
class StreamState:
    """One stream as the node that observes it has it.

    Attributes:
        topic: as the contract names it.
        hz: measured; None: unknown.
        contract_hz: the contract's `rate_hz`, which a stream must reach.
        age_s: of the newest message when this was told; None: none came.
        limit_s: the contract's `max_age_s`.
        state: one of `STATES`.
        detail: why, in words; empty where all is well.
    """

    topic: str
    hz: float | None
    contract_hz: float
    age_s: float | None
    limit_s: float
    state: str
    detail: str = ""


def stream_state(
    topic: str,
    arrivals: Arrivals,
    now_s: float,
    contract_hz: float,
    limit_s: float,
    unusable: str = "",
    absent: str = "",
) -> StreamState:
    """Judge a stream.

    Args:
        unusable: why its messages cannot be used, or "".
        absent: what is known where none came, such as who publishes it.
    """
    hz, age_s = arrivals.hz(now_s), arrivals.age_s(now_s)
    state, detail = "ok", ""
    if age_s is None:
        state, detail = "silent", absent or "no message has come"
    elif unusable:
        state, detail = "unusable", unusable
    elif age_s > limit_s:
        state, detail = "old", f"{age_s:.2f} s old, limit {limit_s:g} s"
    elif hz is not None and hz < SLOW * contract_hz:
        state, detail = "slow", f"{hz:.1f} Hz, the contract has {contract_hz:g} Hz"
    return StreamState(topic, hz, contract_hz, age_s, limit_s, state, detail)


def stream_values(states: Iterable[StreamState]) -> dict[str, object]:
    """Entries of `/diagnostics`; two parts of one topic are one stream."""
    by_topic = merged(states)
    return {KEY + topic: json.dumps(_rounded(state)) for topic, state in by_topic.items()}


def read_streams(values: Mapping[str, str]) -> list[StreamState]:
    """Streams of a node's `/diagnostics`; what is none of ours is left out."""
    found = []
    for key, text in values.items():
        if not key.startswith(KEY):
            continue
        try:
            state = StreamState(**json.loads(text))
        except (ValueError, TypeError, RecursionError):
            continue
        if _is_sound(state):
            found.append(state)
    return found


def _is_sound(state: StreamState) -> bool:
    """Whether its values are of their types: a stranger's may hold anything that JSON has."""
    texts = (state.topic, state.state, state.detail)
    measured = [value for value in (state.hz, state.age_s) if value is not None]
    return (
        all(isinstance(text, str) for text in texts)
        and state.state in STATES
        and all(
            type(number) in (int, float) and abs(number) < _LARGEST
            for number in (state.contract_hz, state.limit_s, *measured)
        )
    )


def merged(states: Iterable[StreamState]) -> dict[str, StreamState]:
    """By topic; of several who observe one, the first with the worst word counts."""
    by_topic: dict[str, StreamState] = {}
    for state in states:
        known = by_topic.setdefault(state.topic, state)
        if STATES.index(state.state) < STATES.index(known.state):
            by_topic[state.topic] = state
    return by_topic


def _rounded(state: StreamState) -> dict[str, object]:
    values = asdict(state)
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}
