"""Curves made small enough to be drawn: few points, but every peak."""

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
MOST_POINTS = 2000
# Rows that wait before they are made few: a recording of hours never lies in memory.
_BUFFER_ROWS = 20_000


def thin(
    times_s: FloatArray, values: FloatArray, span_s: tuple[float, float], points: int = MOST_POINTS
) -> tuple[FloatArray, FloatArray]:
    """At most `points` of a curve: the least and the greatest value of each slice of time.

    Args:
        times_s: (n,).
        values: (n,); NaN where unknown, which stays only where nothing has to go.
        span_s: first and last time of what is drawn; the slices divide it.
        points: at least 2.

    Returns:
        times (m,), rising, and values (m,), m ≤ points.
    """
    order = np.argsort(times_s, kind="stable")
    times_s, values = times_s[order], values[order]
    if len(values) <= points:
        return times_s, values
    known = np.isfinite(values)
    times_s, values = times_s[known], values[known]
    if len(values) <= points:
        return times_s, values
    slices = points // 2
    width = max(span_s[1] - span_s[0], 1e-9) / slices
    place = np.clip((times_s - span_s[0]) / width, 0, slices - 1).astype(np.int64)
    # Within a slice by value: its first is the least, its last the greatest.
    by_value = np.lexsort((values, place))
    ends = np.flatnonzero(np.diff(place[by_value]))
    firsts, lasts = np.concatenate([[0], ends + 1]), np.concatenate([ends, [len(place) - 1]])
    kept = np.unique(np.concatenate([by_value[firsts], by_value[lasts]]))
    return times_s[kept], values[kept]


class Collected:
    """Values of several curves that come in rows, one after another, and are made few meanwhile.

    Args:
        names: of the curves.
        span_s: as for `thin`.
    """

    def __init__(self, names: Sequence[str], span_s: tuple[float, float]) -> None:
        self.names, self._span_s = tuple(names), span_s
        self._rows = array("d")
        empty: FloatArray = np.empty(0)
        self._kept = [(empty, empty) for _ in self.names]

    def add(self, time_s: float, values: Sequence[float] | NDArray[Any]) -> None:
        """One row: a value of each curve."""
        self._rows.append(time_s)
        self._rows.extend(values)
        if len(self._rows) >= _BUFFER_ROWS * (len(self.names) + 1):
            self._make_few()

    def series(self) -> list[dict[str, Any]]:
        """Each curve as JSON takes it: name, t in s, v; null where unknown."""
        self._make_few()
        return [
            as_series(name, times_s, values)
            for name, (times_s, values) in zip(self.names, self._kept, strict=True)
        ]

    def _make_few(self) -> None:
        rows = np.array(self._rows).reshape(-1, len(self.names) + 1)
        del self._rows[:]
        self._kept = [
            thin(
                np.concatenate([times_s, rows[:, 0]]),
                np.concatenate([values, rows[:, k + 1]]),
                self._span_s,
            )
            for k, (times_s, values) in enumerate(self._kept)
        ]


def as_series(name: str, times_s: FloatArray, values: FloatArray) -> dict[str, Any]:
    """A curve as JSON takes it: milliseconds and six digits are more than a screen shows."""
    return {
        "name": name,
        "t": [round(t, 3) for t in times_s.tolist()],
        "v": [float(f"{v:.6g}") if np.isfinite(v) else None for v in values.tolist()],
    }
