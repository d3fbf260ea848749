"""Episodes of a LeRobotDataset in time order, decoded sequentially."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract, ContractError, check_signature, signature_of_dataset
from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY
from rewact_ros.data.dataset.info import read_info
from rewact_ros.data.dataset.reader import open_dataset, stored_pictures

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RecordedEpisode:
    """Numbers of one episode, in the contract's order; frames come from `images`.

    `times` (N,) seconds from the episode's start as recorded, `state` (N, S), `action` (N, A).
    """

    index: int
    times: FloatArray
    state: FloatArray
    action: FloatArray


class RecordedEpisodes:
    """Reads a LeRobotDataset as a robot would have sent it.

    Attributes:
        meta: its description.
        table: all its frames, row by row.

    Raises:
        ContractError: the data set does not fit the contract.
        DatasetError: it is none, or damaged.
    """

    def __init__(self, root: str | Path, contract: Contract) -> None:
        root = Path(root)
        check_signature(contract, signature_of_dataset(read_info(root)), f"data set {root}")
        self._source = open_dataset(root)
        self.meta, self._contract = self._source.meta, contract
        self.table = self._source.hf_dataset.with_format(None)

    @property
    def total(self) -> int:
        """Number of episodes."""
        return int(self.meta.total_episodes)

    def episode(self, index: int) -> RecordedEpisode:
        """Read the numbers of one episode."""
        row = self.meta.episodes[index]
        span = self.table.select(range(row["dataset_from_index"], row["dataset_to_index"]))
        return RecordedEpisode(
            index=index,
            times=np.array(span["timestamp"], dtype=float).reshape(-1),
            state=np.array(span[STATE_KEY], dtype=float),
            action=np.array(span[ACTION_KEY], dtype=float),
        )

    def images(self, index: int) -> Iterator[dict[str, NDArray[np.uint8]]]:
        """Yield the camera images of every frame of an episode: key → (H, W, 3) uint8 RGB."""
        if not self._contract.cameras:
            yield from ({} for _ in range(self.meta.episodes[index]["length"]))
        streams = [self._camera(index, camera.key) for camera in self._contract.cameras]
        for pictures in zip(*streams, strict=True):
            yield {c.key: p for c, p in zip(self._contract.cameras, pictures, strict=True)}

    def _camera(self, index: int, key: str) -> Iterator[NDArray[np.uint8]]:
        row = self.meta.episodes[index]
        if self.meta.features[key]["dtype"] != "video":
            read = stored_pictures(self._source, key)
            yield from map(read, range(row["dataset_from_index"], row["dataset_to_index"]))
            return
        path = self.meta.root / self.meta.get_video_file_path(index, key)
        first_s = row[f"videos/{key}/from_timestamp"]
        length = row["dataset_to_index"] - row["dataset_from_index"]
        tolerance_s = 0.5 / self.meta.fps
        sent = 0
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            container.seek(round(first_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time < first_s - tolerance_s:
                    continue  # the seek lands on the key frame before
                picture: Any = frame.to_ndarray(format="rgb24")  # uint8; the stub names all formats
                yield picture
                sent += 1
                if sent == length:
                    return
        raise ContractError(
            f"{path}: episode {index} has {length} frames, the video only {sent} of them"
        )
