"""A recording as the page shows it: counts, curves, events, and a picture at a time."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract, SampleError
from rewact_ros.contract.frames import NANO
from rewact_ros.data.bags.episode_file import EpisodeRecord
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.data.review.bag_streams import (
    JOINTS,
    PROGRESS,
    Pictures,
    cameras_of,
    contract_of,
    streams_of,
)
from rewact_ros.data.review.open_bags import Looked, OpenBags
from rewact_ros.data.review.pictures import page_jpeg
from rewact_ros.data.review.rows import Counts, ReviewError
from rewact_ros.data.review.series import Collected
from rewact_ros.data.review.story import missing_frames, read_story
from rewact_ros.text import printable, reason

# Of one topic: an hour at 500 Hz. Of more the curve would take minutes.
MOST_MESSAGES = 2_000_000
MOST_FRAMES = 50_000
_NAME = 80


def count_bag(folder: Path, record: EpisodeRecord | None) -> Counts:
    """Look into a recording; what cannot be read is its `why`."""
    try:
        with Bag(folder, record.namespace if record else "", sparse=True) as bag:
            story = read_story(bag)
            cameras = cameras_of(bag, contract_of(record))
            missing = sum(missing_frames(bag.times(camera.topic)) for camera in cameras)
            return Counts(story.alarms, missing, story.interventions, bag.duration_s)
    except (BagError, OSError) as error:
        return Counts(why=printable(reason(error, f"bag {folder}"), 300))


def look_at_bag(bags: OpenBags, folder: Path, record: EpisodeRecord | None) -> dict[str, Any]:
    """All that the page draws of a recording but its pictures.

    Returns:
        `span_s`; `frames_ms`, the times at which a step stops; `cameras` by name; `groups` of
        curves with `name`, `title` and `series`; `happenings`; `human_s`; `faults`, what could not
        be read. Times count from the first message.

    Raises:
        BagError: it cannot be read.
    """
    contract = contract_of(record)
    with bags.use(folder, record.namespace if record else "") as looked:
        bag = looked.bag
        start_ns, end_ns = bag.span_ns
        faults: list[str] = []
        groups = _groups(looked, contract, start_ns, (end_ns - start_ns) / NANO, faults)
        cameras = cameras_of(bag, contract)
        if contract is None:
            faults.append("recorded without a contract: joints and raw pictures only")
        story = read_story(bag)
        return {
            "span_s": round((end_ns - start_ns) / NANO, 3),
            "frames_ms": _frames_ms(looked, cameras, contract, start_ns, end_ns),
            "cameras": [printable(camera.name, _NAME) for camera in cameras],
            "groups": groups,
            "happenings": story.happenings,
            "human_s": [[round(a, 3), round(b, 3)] for a, b in story.human_s],
            "faults": [printable(fault, 300) for fault in faults],
        }


def bag_picture(
    bags: OpenBags, folder: Path, record: EpisodeRecord | None, camera: int, at_s: float
) -> bytes:
    """JPEG of a camera's newest picture at a time; before its first one, that one.

    Args:
        bags: what is open.
        folder, record: of the recording.
        camera: place in `cameras` of `look_at_bag`.
        at_s: s from the first message.

    Raises:
        BagError: the recording cannot be read.
        ReviewError: no such camera, or no picture that fits the contract.
    """
    with bags.use(folder, record.namespace if record else "") as looked:
        cameras = cameras_of(looked.bag, contract_of(record))
        if not 0 <= camera < len(cameras):
            raise ReviewError(f"camera {camera}: the episode has {len(cameras)}")
        chosen = cameras[camera]
        times = looked.times(chosen.topic)
        at_ns = looked.bag.span_ns[0] + round(at_s * NANO)
        place = max(int(np.searchsorted(times, at_ns, "right")) - 1, 0)
        if not len(times):
            raise ReviewError(f"{chosen.name}: no picture was recorded")
        log_ns = int(times[place])
        message = next(looked.bag.messages([chosen.topic], log_ns, log_ns + 1))
    try:
        return page_jpeg(chosen.read(message.body))
    except (SampleError, ValueError) as error:
        raise ReviewError(printable(error, 300)) from error


def _groups(
    looked: Looked, contract: Contract | None, start_ns: int, span_s: float, faults: list[str]
) -> list[dict[str, Any]]:
    groups = []
    for stream in streams_of(looked.bag, contract):
        if len(looked.times(stream.topic)) > MOST_MESSAGES:
            faults.append(f"{stream.topic}: more than {MOST_MESSAGES} messages: not drawn")
            continue
        collected, refused, why = Collected(stream.names, (0.0, span_s)), 0, ""
        for message in looked.bag.messages([stream.topic]):
            try:
                values = stream.read(message.body)
            except SampleError as error:
                refused, why = refused + 1, str(error)
                continue
            collected.add((message.logged_ns - start_ns) / NANO, values)
        if refused:
            faults.append(f"{stream.topic}: {refused} messages do not fit: {why}")
        series = collected.series()
        if stream.group == PROGRESS and not any(one["t"] for one in series):
            continue
        for one in series:
            one["name"] = printable(one["name"], _NAME)
        title = printable(stream.title, _NAME)
        groups.append({"name": stream.group, "title": title, "series": series})
    return groups


def _frames_ms(
    looked: Looked,
    cameras: list[Pictures],
    contract: Contract | None,
    start_ns: int,
    end_ns: int,
) -> list[int]:
    """Where a step to the left or right stops: at the first camera's pictures."""
    times: NDArray[np.int64] = np.empty(0, np.int64)
    if cameras:
        times = looked.times(cameras[0].topic)
    else:
        streams = [s for s in streams_of(looked.bag, contract) if s.group == JOINTS]
        if streams:
            times = looked.times(streams[0].topic)
    if not 2 <= len(times) <= MOST_FRAMES:
        rate_hz = contract.rate_hz if contract is not None else 10.0
        n = min(round((end_ns - start_ns) / NANO * rate_hz) + 1, MOST_FRAMES)
        times = np.linspace(start_ns, end_ns, max(n, 2)).astype(np.int64)
    found: list[int] = np.unique((times - start_ns) // 1_000_000).tolist()
    return found
