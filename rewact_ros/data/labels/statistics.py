"""Statistics of label columns, per episode and for the dataset, as LeRobot keeps them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from lerobot.datasets.compute_stats import aggregate_stats, get_feature_stats
from numpy.typing import NDArray

from .tables import set_column

Stats = dict[str, NDArray[Any]]


class ColumnStatistics:
    """Statistics of one column over its finite values.

    An episode without any gets count 0 and the dataset's mean for all else, so that LeRobot's own
    aggregation, which weighs by count and takes the least and the greatest, is not disturbed.

    Args:
        key: the column.
        episodes: its values (n,) by episode.
    """

    def __init__(self, key: str, episodes: Mapping[int, NDArray[Any]]) -> None:
        self._key = key
        self._episodes: dict[int, Stats] = {}
        for index, values in episodes.items():
            finite = values[np.isfinite(values)].astype(np.float32)
            if len(finite):
                self._episodes[index] = get_feature_stats(finite, axis=0, keepdims=True)
        # Of the dataset; None where no value is known.
        self.total: Stats | None = None
        if self._episodes:
            self.total = aggregate_stats([{key: own} for own in self._episodes.values()])[key]
        names = self.total or get_feature_stats(np.zeros(1, np.float32), axis=0, keepdims=True)
        mean = names["mean"].astype(float)
        self._unknown = {name: np.array([0]) if name == "count" else mean for name in names}

    def add_to(self, table: pa.Table) -> pa.Table:
        """Return a table of meta/episodes with the columns `stats/<key>/…` renewed."""
        indices = table["episode_index"].to_pylist()
        rows = [self._episodes.get(index, self._unknown) for index in indices]
        for name in self._unknown:
            kind = pa.list_(pa.int64() if name == "count" else pa.float64())
            values = pa.array([row[name].tolist() for row in rows], type=kind)
            table = set_column(table, f"stats/{self._key}/{name}", values)
        return table
