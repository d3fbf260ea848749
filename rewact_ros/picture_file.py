"""A picture as JPEG or PNG, for messages and files alike."""

import numpy as np
from numpy.typing import NDArray

LOSSLESS, JPEG_QUALITY = 0, 95


def picture_format(quality: int) -> str:
    """What `encode_picture` makes at a quality: `jpeg` or `png`."""
    return "png" if quality == LOSSLESS else "jpeg"


def encode_picture(picture: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG of a quality from 1 to 100, or as PNG where it is `LOSSLESS`.

    Raises:
        ValueError: the picture is empty, or larger than its format can say.
    """
    import cv2

    form = picture_format(quality)
    # The lowest level: a PNG at the highest takes ten times as long and is a tenth smaller.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if form == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    try:
        done, data = cv2.imencode(f".{form}", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise ValueError(f"a {picture.shape} picture does not encode as {form}") from error
    if not done:
        raise ValueError(f"a {picture.shape} picture does not encode as {form}")
    return bytes(data)
