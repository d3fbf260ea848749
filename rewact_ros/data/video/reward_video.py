"""An episode as a video for the browser: all cameras, and beneath them the reward as it grows."""

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rewact_ros.data.video.reward_chart import Pixels, Reading, Reference, RewardChart, font
from rewact_ros.files import new_beside, place_file

ROW_HEIGHT_PX, MAX_WIDTH_PX, MIN_WIDTH_PX = 480, 1280, 640
CHART_HEIGHT_PX, TITLE_HEIGHT_PX = 208, 32
STRIP_FRAMES = 8
_CLOCK_HZ = 90_000  # exact for 10, 20, 24, 25, 30, 50 and 60 Hz, and for irregular stamps


class VideoError(ValueError):
    """A video that cannot be made as asked."""


class RewardVideo:
    """Writes an MP4 (H.264, yuv420p, index first) frame by frame, and a PNG summary beside it.

    The files take their names when the video is whole: leave by `with`. One frame is in memory at
    a time, and a few small pictures for the summary.

    Args:
        path: of the .mp4; the summary has the same name with .png.
        title: line at the top.
        rate_hz: of the frames; a bag's may come as they were stamped.
        name: of the curve, such as "predicted".
        duration_s: length where it is known; else the time axis grows.
        value_range: lower and upper end of the reward.
        reference: a curve known beforehand, such as the labels.

    Raises:
        VideoError: the file cannot be written, or frames come out of order or change their size.
    """

    def __init__(
        self,
        path: Path,
        title: str,
        rate_hz: float,
        name: str = "predicted",
        duration_s: float | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        reference: Reference | None = None,
    ) -> None:
        self.path, self.title = path, title
        self._rate_hz, self._name = rate_hz, name
        self._range, self._reference = value_range, reference
        self._known_s = duration_s
        self._times: list[float] = []
        self._readings: list[Reading | None] = []
        self._thumbnails = _Thumbnails()
        self._chart: RewardChart | None = None
        self._sizes: dict[str, tuple[int, int]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_beside(path) as file:
                self._partial = Path(file.name)
            self._file = av.open(file.name, "w", format="mp4", options={"movflags": "+faststart"})
        except (OSError, av.FFmpegError) as error:
            raise self._unwritable(error) from error
        self._stream = self._file.add_stream(
            "libx264",
            rate=Fraction(rate_hz).limit_denominator(1000),
            options={"crf": "20", "preset": "veryfast"},
        )

    def __enter__(self) -> "RewardVideo":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        except (OSError, av.FFmpegError) as error:
            raise self._unwritable(error) from error
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def add(
        self, time_s: float, images: Mapping[str, NDArray[np.uint8]], reading: Reading | None
    ) -> None:
        """Append a frame.

        Args:
            time_s: from the episode's start, greater than the last one's.
            images: camera → (H, W, 3) uint8 RGB, in the order in which they are shown.
            reading: reward of this moment; None where there is none.
        """
        if self._times and time_s <= self._times[-1]:
            raise VideoError(
                f"{self.path.name}: frame at {time_s:.3f} s after one at {self._times[-1]:.3f} s: "
                "the recording's stamps run backwards"
            )
        self._times.append(time_s)
        self._readings.append(reading)
        cameras = self._camera_row(images)
        self._thumbnails.add(time_s, cameras)
        picture = self._compose(cameras)
        if len(self._times) == 1:
            self._open_stream(picture)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = round(time_s * _CLOCK_HZ)
        frame.time_base = Fraction(1, _CLOCK_HZ)
        try:
            self._file.mux(self._stream.encode(frame))
        except (OSError, av.FFmpegError) as error:
            raise self._unwritable(error) from error

    def _open_stream(self, picture: Pixels) -> None:
        self._stream.height, self._stream.width = picture.shape[:2]
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _CLOCK_HZ)

    def _camera_row(self, images: Mapping[str, NDArray[np.uint8]]) -> Pixels:
        """All cameras side by side at one height, each with its name."""
        sizes = {key: (image.shape[0], image.shape[1]) for key, image in images.items()}
        if not self._sizes:
            self._sizes = sizes
        if sizes != self._sizes or not sizes:
            raise VideoError(
                f"{self.path.name}: cameras: expected {self._sizes or 'at least one'}, got {sizes}"
            )
        aspect = sum(width / height for height, width in sizes.values())
        row_px = min(ROW_HEIGHT_PX, int(MAX_WIDTH_PX / aspect)) // 2 * 2
        row = []
        for key, image in images.items():
            width = round(row_px * image.shape[1] / image.shape[0] / 2) * 2
            how = cv2.INTER_AREA if row_px < image.shape[0] else cv2.INTER_CUBIC
            scaled = np.asarray(cv2.resize(image, (width, row_px), interpolation=how), np.uint8)
            _write(scaled, key.rsplit(".", 1)[-1], (255, 255, 255), outline_px=2)
            row.append(scaled)
        return np.concatenate(row, axis=1)

    def _compose(self, cameras: Pixels) -> Pixels:
        height, row_width, _ = cameras.shape
        width = max(MIN_WIDTH_PX, row_width)
        if self._chart is None or self._times[-1] > self._chart.span_s:
            size = (width, CHART_HEIGHT_PX)
            self._chart = RewardChart(
                size, self._span_s(), self._name, self._range, self._reference
            )
        picture = np.full(
            (TITLE_HEIGHT_PX + height + CHART_HEIGHT_PX, width, 3), 255, dtype=np.uint8
        )
        left = (width - row_width) // 2
        picture[TITLE_HEIGHT_PX : TITLE_HEIGHT_PX + height, left : left + row_width] = cameras
        picture[TITLE_HEIGHT_PX + height :] = self._chart.draw(self._times, self._readings)
        _write(picture, self.title, (40, 40, 40))
        return picture

    def _span_s(self) -> float:
        """Right end of the axis: the known duration, or the next of 5, 10, 20, … s."""
        now_s, span_s = self._times[-1], 5.0
        if self._known_s is not None and now_s <= self._known_s:
            return max(self._known_s, 1 / self._rate_hz)
        while span_s < now_s:
            span_s *= 2
        return span_s

    def _finish(self) -> None:
        if not self._times:
            raise VideoError(f"{self.path.name}: there is no frame to show")
        self._file.mux(self._stream.encode(None))
        self._file.close()
        place_file(self._partial, self.path)
        self._summary().savefig(self.path.with_suffix(".png"), dpi=100)

    def _summary(self) -> Figure:
        """Some frames over the whole curve."""
        pictures, times_s = self._thumbnails.pick()
        strip_inch = 9.3 * pictures.shape[0] / pictures.shape[1]
        figure = Figure(figsize=(10, strip_inch + 2.9), layout="constrained")
        strip, curve = figure.subplots(2, 1, height_ratios=(strip_inch, 2.4))
        strip.axis("off")
        strip.imshow(pictures)
        for k, time_s in enumerate(times_s):
            x = k * pictures.shape[1] / len(times_s) + 6
            text = strip.text(x, len(pictures) - 8, f"{time_s:.1f} s", color="white", fontsize=8)
            text.set_path_effects([withStroke(linewidth=2, foreground="black")])
        strip.set_title(self.title, fontsize=10)
        times = np.array(self._times)
        nan = Reading(math.nan)
        rows = [reading or nan for reading in self._readings]
        low = np.array([math.nan if r.low is None else r.low for r in rows])
        high = np.array([math.nan if r.high is None else r.high for r in rows])
        if not np.isnan(low).all():
            curve.fill_between(times, low, high, color="tab:blue", alpha=0.25, label="q10–q90")
        value = np.array([r.value for r in rows])
        known = ~np.isnan(value)
        curve.plot(times[known], value[known], color="tab:blue", label=self._name)
        if self._reference is not None:
            reference = self._reference
            curve.plot(reference.times, reference.values, "--", color="0.45", label=reference.name)
        margin = 0.05 * (self._range[1] - self._range[0])
        limits = (self._range[0] - margin, self._range[1] + margin)
        curve.set(xlabel="time, s", ylabel="reward", ylim=limits, xlim=(0, max(times[-1], 1e-3)))
        curve.grid(alpha=0.3)
        curve.legend(loc="upper left", fontsize=8)
        return figure

    def _unwritable(self, error: BaseException) -> VideoError:
        reason = getattr(error, "strerror", None) or error
        return VideoError(f"video {self.path}: cannot be written: {reason}; name another --out")


def _write(picture: Pixels, text: str, colour: tuple[int, int, int], outline_px: int = 0) -> None:
    """Write one line into the top left corner, in place."""
    top = Image.fromarray(picture[:TITLE_HEIGHT_PX])
    ImageDraw.Draw(top).text(
        (9, 6), text, fill=colour, font=font(15), stroke_width=outline_px, stroke_fill=(0, 0, 0)
    )
    picture[:TITLE_HEIGHT_PX] = np.asarray(top)


class _Thumbnails:
    """Evenly spaced pictures of a stream of unknown length, at most twice STRIP_FRAMES of them."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, Pixels]] = []
        self._every, self._seen = 1, 0

    def add(self, time_s: float, picture: Pixels) -> None:
        if self._seen % self._every == 0:
            if len(self._kept) == 2 * STRIP_FRAMES:
                del self._kept[1::2]
                self._every *= 2
            if self._seen % self._every == 0:
                width = round(picture.shape[1] * 156 / picture.shape[0])
                small = cv2.resize(picture, (width, 156), interpolation=cv2.INTER_AREA)
                framed = np.pad(small, ((2, 2), (2, 2), (0, 0)), constant_values=255)
                self._kept.append((time_s, np.asarray(framed, np.uint8)))
        self._seen += 1

    def pick(self) -> tuple[Pixels, list[float]]:
        """Some of them side by side, (160, W, 3), and their times in s."""
        picks = np.unique(np.linspace(0, len(self._kept) - 1, STRIP_FRAMES).round().astype(int))
        return np.concatenate([self._kept[i][1] for i in picks], axis=1), [
            self._kept[i][0] for i in picks
        ]
