"""The first picture of each camera of a LeRobotDataset, without loading LeRobot."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.checks.facts import Dataset
from rewact_ros.contract.schema import IMAGE_PREFIX, ContractError
from rewact_ros.data.dataset.info import DatasetError, read_info, recorded_signature

_LARGEST_BYTES = 64 << 20
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # of the others some start programs


def training_facts(root: Path) -> Dataset:
    """Signature and first pictures of training data; what cannot be read is its `fault`."""
    try:
        info, signature = read_info(root), recorded_signature(root)
        pictures: dict[str, NDArray[np.uint8]] = {}
        for key, feature in info["features"].items():
            if key.startswith(IMAGE_PREFIX):
                video = feature["dtype"] == "video"
                picture = _of_video(root, info, key) if video else _of_table(root, info, key)
                if picture is not None:
                    pictures[key] = picture
    except (DatasetError, ContractError) as error:
        return Dataset(str(root), fault=str(error))
    return Dataset(str(root), signature=signature, pictures=pictures)


def _first(root: Path, template: str, **fields: Any) -> Path | None:
    """The file of a template's first chunk; None: it is not there."""
    path = root / template.format(chunk_index=0, file_index=0, **fields)
    inside = path.resolve().is_relative_to(root.resolve())
    return path if inside and path.is_file() else None


def _of_video(root: Path, info: dict[str, Any], key: str) -> NDArray[np.uint8] | None:
    import av

    path = _first(root, info["video_path"], video_key=key)
    if path is None:
        return None
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except av.error.FFmpegError:
        raise DatasetError(f"{path}: does not decode; copy the dataset anew") from None
    return None


def _of_table(root: Path, info: dict[str, Any], key: str) -> NDArray[np.uint8] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    path = _first(root, info["data_path"])
    if path is None:
        return None
    try:
        batch = next(pq.ParquetFile(path).iter_batches(1, columns=[key]), None)
        cell = batch.column(0)[0].as_py() if batch is not None and batch.num_rows else None
        content = cell.get("bytes") if isinstance(cell, dict) else None
        if not content or len(content) > _LARGEST_BYTES:
            return None
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        return np.asarray(picture.convert("RGB"), np.uint8)
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise DatasetError(f"{path}: {key}: {str(error)[:200]}; copy the dataset anew") from None
