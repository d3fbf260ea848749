"""An episode as a file for the Rerun viewer (.rrd): cameras, numbers, progress, events."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewact_ros.contract.schema import ActionPart, StatePart
from rewact_ros.data.video.reward_chart import Reading
from rewact_ros.files import replacing_file
from rewact_ros.text import printable

EXTRA = "rerun"
JPEG_QUALITY = 90
# What the viewer shows as one of its timelines: seconds from the episode's first observation, or
# from the beginning of a live view.
TIMELINE, LIVE = "episode", "live"


class RerunMissingError(ValueError):
    """The package `rerun-sdk` is not installed; the message names the extra that brings it."""


def import_rerun() -> ModuleType:
    """The package, which only this needs.

    Raises:
        RerunMissingError: not installed, or it does not import.
    """
    try:
        import rerun
    except ImportError as error:
        raise RerunMissingError(
            f"--rerun: rerun-sdk does not import ({error}); pip install 'rewact_ros[{EXTRA}]'"
        ) from error
    module: ModuleType = rerun
    return module


def entity_of(what: str, part: StatePart | ActionPart, parts: int) -> str:
    """Where a part's curves are, such as `joints` or `commands/arm`; one alone needs no name."""
    return what if parts == 1 else f"{what}/{part.name or part.topic.strip('/').replace('/', '_')}"


class RerunLog:
    """What an episode is made of, as a stream of Rerun's; leave by `with`.

    Args:
        title: name of the recording in the viewer.
        cameras: names, in the order in which they are shown.
        live: several episodes, of which none has ended.

    Raises:
        RerunMissingError: at `__init__`.
    """

    def __init__(self, title: str, cameras: Sequence[str], live: bool = False) -> None:
        self._rr = import_rerun()
        self._title, self._cameras, self._live = printable(title, 200), cameras, live

    def __enter__(self) -> Self:
        self._out = self._rr.RecordingStream("rewact_ros")
        with ExitStack() as stack:
            self._open(stack)
            self._out.send_recording_name(self._title)
            self._stack = stack.pop_all()
        return self

    def _open(self, stack: ExitStack) -> None:
        """Say where the stream goes; `stack` ends it."""
        raise NotImplementedError

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def pictures(self, time_s: float, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Camera → (H, W, 3) uint8 RGB, as JPEG of quality 90."""
        for name, image in images.items():
            picture = self._rr.Image(image).compress(jpeg_quality=JPEG_QUALITY)
            self._log(time_s, ["cameras", name], picture)

    def names(self, what: str, names: Sequence[str]) -> None:
        """Name the curves of `numbers`, once."""
        lines = self._rr.SeriesLines(names=[printable(name, 200) for name in names])
        self._out.log(what.split("/"), lines, static=True)

    def numbers(self, time_s: float, what: str, values: ArrayLike) -> None:
        """Values (N,) of a moment, such as those of `joints`, `commands` or `commands/arm`."""
        self._log(
            time_s, what.split("/"), self._rr.Scalars(np.asarray(values, np.float64).reshape(-1))
        )

    def progress(self, time_s: float, who: str, reading: Reading) -> None:
        """Progress and, where it has them, its quantiles; unknown ones are left out."""
        for name, value in ((who, reading.value), ("q10", reading.low), ("q90", reading.high)):
            if value is not None and np.isfinite(value):
                self._log(time_s, ["progress", name], self._rr.Scalars(float(value)))

    def event(self, time_s: float, text: str, level: str = "INFO") -> None:
        """A line of the log; levels are INFO, WARN and ERROR."""
        self._log(time_s, ["events"], self._rr.TextLog(printable(text), level=level))

    def outcome(self, text: str) -> None:
        """How the episode ended, shown at every moment."""
        self._out.log("outcome", self._rr.TextDocument(printable(text)), static=True)

    def _log(self, time_s: float, path: list[str], what: Any) -> None:
        self._out.set_time(LIVE if self._live else TIMELINE, duration=time_s)
        self._out.log(path, what)  # a list, whose parts may hold slashes and blanks

    def _blueprint(self) -> Any:
        import rerun.blueprint as rrb

        pictures = [
            rrb.Spatial2DView(origin=self._rr.new_entity_path(["cameras", name]), name=name)
            for name in self._cameras
        ]
        if not self._live:
            pictures.append(rrb.TextDocumentView(origin="outcome", name="outcome"))
        return rrb.Blueprint(
            rrb.Horizontal(
                rrb.Vertical(*pictures),
                rrb.Vertical(
                    rrb.TimeSeriesView(origin="progress", name="progress"),
                    rrb.TimeSeriesView(origin="joints", name="joints"),
                    rrb.TimeSeriesView(origin="commands", name="commands"),
                    rrb.TextLogView(origin="events", name="events"),
                ),
                column_shares=[1, 2],
            ),
            collapse_panels=True,
        )


class RerunFile(RerunLog):
    """Writes a recording; the file takes its name when it is whole.

    Args:
        path: of the .rrd.
        title, cameras, live: as of `RerunLog`.

    Raises:
        RerunMissingError: at `__init__`.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, title: str, cameras: Sequence[str], live: bool = False) -> None:
        super().__init__(title, cameras, live)
        self.path = path

    def _open(self, stack: ExitStack) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = stack.enter_context(replacing_file(self.path))
        stack.callback(self._out.disconnect)  # before the file is given its name
        stack.callback(self._out.flush)
        self._out.save(partial.name, default_blueprint=self._blueprint())
