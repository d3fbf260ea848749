"""Camera images of an episode straight into a video, with the statistics LeRobot wants."""

from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.compute_stats import RunningQuantileStats, auto_downsample_height_width
from numpy.typing import NDArray

from rewact_ros.data.video.encoders import keep_priority, quiet_encoders

# Neighbouring images are nearly the same: every n-th is enough for mean, spread and quantiles.
STATISTICS_EVERY = 5


@dataclass(frozen=True)
class VideoSettings:
    """How images become video.

    Attributes:
        codec: FFmpeg encoder.
        encoder: as LeRobot describes and sets it.
    """

    codec: str
    encoder: RGBEncoderConfig

    def options(self, threads: int) -> dict[str, str]:
        """Encoder options."""
        return self.encoder.get_codec_options(threads, as_strings=True)


def video_settings(kind: str) -> VideoSettings:
    """The settings of one of `VIDEO_KINDS`.

    `lerobot`: LeRobot's own default (AV1). `fine`: H.264 with full colour resolution, as our
    simulated data sets have it. `lossless`: H.264 in RGB, every bit as recorded.
    """
    if kind == "fine":
        fine = RGBEncoderConfig(vcodec="h264", pix_fmt="yuv444p", crf=14, preset="veryfast")
        return VideoSettings("h264", fine)
    if kind == "lossless":
        exact = RGBEncoderConfig(vcodec="h264", pix_fmt="yuv444p", crf=0, preset="veryfast")
        return VideoSettings("libx264rgb", exact)  # the same encoder without a colour conversion
    default = RGBEncoderConfig()
    return VideoSettings(default.vcodec, default)


class VideoWriter:
    """Encodes images as they come; no more of them is in memory than the encoder looks ahead.

    Args:
        path: .mp4 file to write.
        rate_hz: frames per second.
        settings: encoder.
        threads: of the encoder.
    """

    def __init__(self, path: Path, rate_hz: int, settings: VideoSettings, threads: int) -> None:
        self.path, self.frames = path, 0
        self._rate_hz, self._settings, self._threads = rate_hz, settings, threads
        self._statistics = RunningQuantileStats()
        self._container: av.container.OutputContainer | None = None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append an image (H, W, 3) RGB, of the size of the first one."""
        container = self._open(*image.shape[:2]) if self._container is None else self._container
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self.frames, Fraction(1, self._rate_hz)
        # The first image opens the encoder, and that is when it starts its threads.
        with nullcontext() if self.frames else keep_priority():
            container.mux(self._stream.encode(frame))
        if self.frames % STATISTICS_EVERY == 0:
            small = auto_downsample_height_width(image.transpose(2, 0, 1))
            self._statistics.update(small.transpose(1, 2, 0).reshape(-1, 3))
        self.frames += 1

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Per channel, 0 to 255: min, max, mean, std and quantiles (3,); count (1,)."""
        found: dict[str, NDArray[np.float64]] = self._statistics.get_statistics()
        return found

    def close(self) -> None:
        """Write what the encoder still holds."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None

    def _open(self, height: int, width: int) -> av.container.OutputContainer:
        quiet_encoders()
        self._container = container = av.open(str(self.path), "w")
        stream = container.add_stream(
            self._settings.codec, self._rate_hz, options=self._settings.options(self._threads)
        )
        assert isinstance(stream, av.VideoStream)  # of these codecs
        self._stream = stream
        exact = self._settings.codec == "libx264rgb"
        self._stream.pix_fmt = "rgb24" if exact else self._settings.encoder.pix_fmt
        self._stream.height, self._stream.width = height, width
        self._stream.time_base = Fraction(1, self._rate_hz)
        return container
