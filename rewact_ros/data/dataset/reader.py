"""The one way by which a LeRobotDataset is opened, and by which its stored pictures are read."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import Image
from huggingface_hub.errors import HFValidationError
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numpy.typing import NDArray
from PIL import Image as Picture

from rewact_ros.contract import image_shape

from .files import check_dataset
from .info import DatasetError

# Neither is a name that the Hub's client takes: whatever LeRobot misses, it cannot ask there.
_NO_HUB, _NO_REVISION = "// local folder //", "local folder"
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # of the others some start programs


def open_dataset(root: Path) -> LeRobotDataset:
    """Open a LeRobotDataset v3 that lies in a folder, all episodes of it; the Hub is never asked.

    Raises:
        DatasetError: what is missing, damaged or of another version, and the mend.
        OSError: no room for the library's own cache.
    """
    check_dataset(root)
    try:
        return LeRobotDataset(_NO_HUB, root=root, revision=_NO_REVISION, video_backend="pyav")
    except MemoryError:
        raise
    except HFValidationError as error:
        raise DatasetError(
            f"{root}: LeRobot misses a part of it ({error.__context__}); copy it anew, whole "
            "(nothing is fetched from the Hub)"
        ) from error
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__  # `datasets` wraps what it stumbled over
        if isinstance(cause, OSError) and cause.errno is not None:
            raise cause from error
        text = " ".join(str(cause).split())
        raise DatasetError(
            f"{root}: LeRobot cannot read it: {type(cause).__name__}: {text[:300]}; do the columns "
            "of data have the features' types and shapes (meta/info.json)? copy it anew"
        ) from error


def stored_pictures(dataset: LeRobotDataset, camera: str) -> Callable[[int], NDArray[np.uint8]]:
    """How to read a camera whose pictures lie in the tables: dataset row → (H, W, 3) uint8 RGB.

    The reader raises DatasetError for a row that holds no picture of the camera's shape. What a
    row says of paths and addresses is not followed.
    """
    height, width, _ = image_shape(camera, dataset.meta.features[camera])
    column = dataset.hf_dataset.with_format(None).select_columns([camera])
    column = column.cast_column(camera, Image(decode=False))

    def read(row: int) -> NDArray[np.uint8]:
        content = column[row][camera]["bytes"]
        try:
            picture = Picture.open(io.BytesIO(content or b""), formats=_FORMATS)
            if picture.size != (width, height):
                raise ValueError(f"expected {width}x{height} px, got {picture.size}")
            return np.asarray(picture.convert("RGB"))
        except (Picture.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
            why = "no picture is stored" if not content else " ".join(str(error).split())
            raise DatasetError(
                f"{dataset.root}: {camera}: row {row}: {why}; the dataset is damaged, copy it anew"
            ) from error

    return read
