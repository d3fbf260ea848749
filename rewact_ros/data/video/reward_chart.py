"""The reward over time as a picture: axes drawn once, the curve drawn quickly into every frame."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
BLUE, LIGHT, GREY = (31, 119, 180), (166, 206, 235), (110, 110, 110)
PANEL_PX = 132  # on the right, for the numbers
MAX_GAP_S = 0.5  # a longer time without a reward is a gap, not a line
_SHIFT = 4  # sub-pixel bits of OpenCV's coordinates
_DPI = 100


@dataclass(frozen=True)
class Reading:
    """The reward at one moment; `low` and `high` are q10 and q90 where the head gives them."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Reference:
    """A curve that is known beforehand, such as the labels: (N,) seconds, (N,) values with NaN."""

    name: str
    times: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, now_s: float) -> float:
        """Newest value at or before a time, NaN before the first."""
        k = int(np.searchsorted(self.times, now_s + 1e-6, side="right")) - 1
        return float(self.values[k]) if k >= 0 else float("nan")


class RewardChart:
    """Draws the curve up to now over its axes.

    Args:
        size: (width, height) in px.
        span_s: right end of the time axis.
        name: of the curve.
        value_range: lower and upper end of the reward.
        reference: drawn whole, in grey, under the curve.
    """

    def __init__(
        self,
        size: tuple[int, int],
        span_s: float,
        name: str,
        value_range: tuple[float, float] = (0.0, 1.0),
        reference: Reference | None = None,
    ) -> None:
        self.span_s = span_s
        self._name, self._reference = name, reference
        width, height = size
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes(
            (54 / width, 40 / height, (width - 54 - PANEL_PX) / width, (height - 52) / height)
        )
        margin = 0.05 * (value_range[1] - value_range[0])
        axes.set(
            xlim=(0, span_s),
            ylim=(value_range[0] - margin, value_range[1] + margin),
            xlabel="time, s",
            ylabel="reward",
        )
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if reference is not None:
            axes.plot(reference.times, reference.values, color="0.45", lw=1.2, ls=(0, (4, 2)))
        canvas.draw()
        self._background = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        self._to_px: Any = axes.transData.frozen()  # a Transform, which the stub does not say
        self._top_px, self._bottom_px = 12, height - 40

    def draw(self, times: list[float], readings: list[Reading | None]) -> Pixels:
        """Return (H, W, 3) uint8 RGB with the curve so far.

        Args:
            times, readings: all so far, at least one; the last is now. None: no reward then.
        """
        picture = self._background.copy()
        runs = _runs(times, readings)
        self._draw_band(picture, runs)
        for run in runs:
            points = self._points([t for t, _ in run], [r.value for _, r in run])
            cv2.polylines(picture, [points], False, BLUE, 2, cv2.LINE_AA, _SHIFT)
        x = int(self._points([times[-1]], [0.0])[0, 0]) >> _SHIFT
        cv2.line(picture, (x, self._top_px), (x, self._bottom_px), GREY, 1)
        now = None
        if runs and times[-1] - runs[-1][-1][0] <= MAX_GAP_S:
            newest_s, now = runs[-1][-1]
            centre = tuple(self._points([newest_s], [now.value])[0].tolist())
            cv2.circle(picture, centre, 4 << _SHIFT, BLUE, -1, cv2.LINE_AA, _SHIFT)
        self._write_numbers(picture, times[-1], now)
        return picture

    def _draw_band(self, picture: Pixels, runs: list[list[tuple[float, Reading]]]) -> None:
        band = None
        for run in runs:
            known = [(t, r.low, r.high) for t, r in run if r.low is not None and r.high is not None]
            if len(known) < 2:
                continue
            times, low, high = (list(column) for column in zip(*known, strict=True))
            outline = np.concatenate([self._points(times, low), self._points(times, high)[::-1]])
            band = picture.copy() if band is None else band
            cv2.fillPoly(band, [outline], LIGHT, cv2.LINE_AA, _SHIFT)
        if band is not None:  # half transparent: grid and reference stay visible
            cv2.addWeighted(band, 0.6, picture, 0.4, 0, dst=picture)

    def _points(self, times: list[float], values: list[float]) -> NDArray[np.int32]:
        """(N, 2) OpenCV fixed-point pixels, y downwards."""
        xy = self._to_px.transform(np.column_stack([times, values]))
        xy[:, 1] = len(self._background) - xy[:, 1]
        return np.round(xy * (1 << _SHIFT)).astype(np.int32)

    def _write_numbers(self, picture: Pixels, now_s: float, now: Reading | None) -> None:
        lines = [(self._name, 11, GREY), (f"{now.value:.2f}" if now else "–", 34, BLUE)]
        if now and now.low is not None and now.high is not None:
            lines.append((f"q10–q90 {now.low:.2f}–{now.high:.2f}", 11, GREY))
        if self._reference is not None:
            value = self._reference.at(now_s)
            shown = "–" if np.isnan(value) else f"{value:.2f}"
            lines.append((f"- - {self._reference.name} {shown}", 11, GREY))
        lines.append((f"{now_s:.2f} s", 11, GREY))
        left = picture.shape[1] - PANEL_PX + 6
        panel = Image.fromarray(picture[:, left:])
        draw, y = ImageDraw.Draw(panel), 14
        for text, size, colour in lines:
            draw.text((2, y), text, fill=colour, font=font(size))
            y += round(size * 1.3) + 4
        picture[:, left:] = np.asarray(panel)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings, in px."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _runs(times: list[float], readings: list[Reading | None]) -> list[list[tuple[float, Reading]]]:
    """Stretches without a gap."""
    runs: list[list[tuple[float, Reading]]] = []
    for time_s, reading in zip(times, readings, strict=True):
        if reading is None:
            continue
        if not runs or time_s - runs[-1][-1][0] > MAX_GAP_S:
            runs.append([])
        runs[-1].append((time_s, reading))
    return runs
