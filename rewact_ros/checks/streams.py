"""Streams: whether they come, how often, how evenly, with which stamps, and what is in pictures."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rewact_ros.checks.facts import CameraHeard, Facts, Heard, Pixels
from rewact_ros.checks.finding import Finding, error, warning
from rewact_ros.contract.frames import FROZEN_MOTION, SampleError, check_image
from rewact_ros.contract.schema import Camera, Contract
from rewact_ros.stamps import NANO, stamp_fault

# A stream below this share of the contract's rate leaves frames of a dataset without news.
SLOW = 0.9
# Below this one no dataset of that rate can be made.
FAR_TOO_SLOW = 0.7
LOST = 0.02
# Of the gaps between messages, so many may be longer than the stream may be old.
LATE_SHARE = 0.05
FEWEST = 5  # messages that tell an interval
# Of 255: below, nothing but noise is in a picture.
BLACK, WHITE, FLAT = 6.0, 250.0, 2.0
# The same picture so often is no camera's: its sensor has noise.
FROZEN = 8
# Cameras are swapped where the other's training picture is nearer by so much (of the distance).
SWAPPED = 0.7
SMALL = (12, 16)  # height, width at which views are compared


def heard(facts: Facts) -> list[Heard]:
    """Everything that was listened to."""
    assert facts.joints is not None and facts.cameras is not None
    return [*facts.joints, *facts.cameras]


def silent(facts: Facts) -> Iterator[Finding]:
    """Whether what is published also comes."""
    assert facts.graph is not None
    for stream in heard(facts):
        there = facts.graph.publishers.get(stream.topic, ())
        fitting = [each for each in there if each.type == stream.type and not each.mismatch]
        if not stream.count and fitting:
            yield error(
                f"{stream.where}: {stream.topic}",
                "messages",
                "none",
                "look at the driver's log, the cable, and the network between both",
                f"{fitting[0].node} publishes it, but sends nothing",
            )


def rates(facts: Facts) -> Iterator[Finding]:
    """Whether each stream is sent as often as the contract says."""
    contract = facts.contract
    assert contract is not None
    for stream in heard(facts):
        hz, wanted = stream.published_hz, contract.rate_hz
        if stream.count and hz < SLOW * wanted:
            least = max(FAR_TOO_SLOW * wanted, 1 / stream.limit_s, 1 / contract.max_skew_s)
            make = error if hz < least else warning
            got = f"{hz:.1f} Hz" if hz else f"{stream.count} messages in all"
            yield make(
                f"{stream.where}: {stream.topic}",
                f"{wanted:g} Hz as in the contract",
                got,
                "set the driver to that rate, or correct 'rate_hz'",
            )


def losses(facts: Facts) -> Iterator[Finding]:
    """Whether messages are lost between the driver and here."""
    for stream in heard(facts):
        if stream.count >= FEWEST and stream.lost > LOST:
            yield warning(
                f"{stream.where}: {stream.topic}",
                f"at most {LOST:.0%} lost on the way",
                f"{stream.lost:.0%}, {stream.received_hz:.1f} of {stream.published_hz:.1f} Hz",
                "set FASTRTPS_DEFAULT_PROFILES_FILE to config/fastdds.xml on both ends, or let the "
                "machine do less",
            )


def jitter(facts: Facts) -> Iterator[Finding]:
    """Whether a stream stays younger than `max_age_s` between two messages."""
    for stream in heard(facts):
        gaps_s = stream.gaps_s
        if len(gaps_s) < FEWEST or np.median(gaps_s) > stream.limit_s:
            continue  # evenly slow: its rate says it all
        late = float((gaps_s > stream.limit_s).mean())
        if late:
            make = error if late > LATE_SHARE else warning
            yield make(
                f"{stream.where}: {stream.topic}",
                f"gaps of at most max_age_s, {stream.limit_s:g} s",
                f"{late:.0%} are longer, up to {gaps_s.max():.2f} s, at {stream.published_hz:.1f} "
                "Hz on average",
                "look for what holds the driver up, or raise 'max_age_s'",
            )


def stamps(facts: Facts) -> Iterator[Finding]:
    """Whether header stamps are of this moment and this clock."""
    for stream in heard(facts):
        where = f"{stream.where}: {stream.topic}"
        if not stream.count:
            continue
        if 0 in stream.stamps_ns:
            yield error(where, fault=stamp_fault(0, 1))
        elif len(set(stream.stamps_ns)) == 1 < FEWEST <= stream.count:
            yield error(
                where,
                "stamps that rise",
                f"the same in {stream.count} messages",
                "its publisher must stamp each message anew",
            )
        else:
            # The youngest: a stall of ours makes others look old, and none young.
            young = int(np.argmin(stream.ages_s))
            fault = stamp_fault(
                stream.stamps_ns[young],
                stream.ros_ns[young],
                ahead_s=stream.limit_s,
                late_s=stream.limit_s,
            )
            if fault:
                yield error(where, fault=f"{fault}{_clock(facts)}")
            elif any(b < a for a, b in pairwise(stream.stamps_ns)):
                yield warning(
                    where, "stamps that rise", "one before the last", "is there a second publisher?"
                )


def skew(facts: Facts) -> Iterator[Finding]:
    """Whether the stamps of all streams lie near enough to make one observation."""
    contract, found = facts.contract, heard(facts)
    assert contract is not None and facts.cameras is not None and facts.joints is not None
    if next(stamps(facts), None) is not None:
        return
    # What is missing or slow is told as that.
    quick = [s for s in found if s.count >= FEWEST and s.published_hz >= SLOW * contract.rate_hz]
    reference = facts.cameras[0] if facts.cameras else facts.joints[0]
    for stream in quick:
        if stream is reference or reference not in quick:
            continue
        apart_s = _apart_s(reference, stream)
        if apart_s > contract.max_skew_s:
            yield error(
                f"{stream.where}: {stream.topic}",
                f"a stamp within max_skew_s, {contract.max_skew_s:g} s, before the stamp of "
                f"{reference.topic}",
                f"{apart_s:.3f} s before it, as a rule",
                "mend the later driver's stamps, or raise 'max_skew_s'",
            )


def _apart_s(reference: Heard, stream: Heard) -> float:
    """The middle one of the distances from a picture's stamp to the newest before it, s.

    As `FrameAssembler` has it live: what comes after the next picture comes too late.
    """
    stamps, arrivals = np.array(stream.stamps_ns), np.array(stream.arrivals_s)
    apart = []
    for stamp_ns, until_s in zip(reference.stamps_ns, reference.arrivals_s[1:], strict=False):
        there = stamps[(arrivals < until_s) & (stamps <= stamp_ns)]
        apart.append((stamp_ns - there.max()) / NANO if there.size else np.nan)
    known = [value for value in apart if np.isfinite(value)]
    return float(np.median(known)) if known else float("inf")


def _clock(facts: Facts) -> str:
    return "; somebody publishes /clock (--use-sim-time compares with it)" if facts.clock else ""


# Pictures -----------------------------------------------------------------------------------------


def sizes(facts: Facts) -> Iterator[Finding]:
    """Whether pictures have the contract's size."""
    for camera, stream in _cameras(facts):
        try:
            if stream.size is not None:
                check_image(camera, stream.size)
        except SampleError as fault:
            yield error(camera.key, fault=str(fault))


def encodings(facts: Facts) -> Iterator[Finding]:
    """Whether pictures can be read: their encoding, their format, their bytes."""
    for camera, stream in _cameras(facts):
        if stream.refused and (stream.size is None or stream.size == camera.shape[:2]):
            yield error(camera.key, fault=stream.refused)


def black(facts: Facts) -> Iterator[Finding]:
    """Whether there is anything in the pictures."""
    for camera, stream in _cameras(facts):
        if stream.picture is None:
            continue
        mean, spread = float(stream.picture.mean()), float(stream.picture.std())
        what = "black" if mean < BLACK else "white" if mean > WHITE else "of one colour"
        if (mean < BLACK and spread < BLACK) or spread < FLAT or mean > WHITE:
            yield error(
                f"{camera.key}: {camera.topic}",
                "a picture of the scene",
                f"{what} (mean {mean:.0f}, spread {spread:.1f} of 255)",
                "take the cap off, switch the light on, and look at its exposure and cable",
            )


def frozen(facts: Facts) -> Iterator[Finding]:
    """Whether pictures change."""
    assert facts.joints is not None
    travel = max((stream.travel for stream in facts.joints), default=0.0)
    for camera, stream in _cameras(facts):
        if len(stream.checksums) >= FROZEN and len(set(stream.checksums)) == 1:
            make = error if travel > FROZEN_MOTION else warning
            yield make(
                f"{camera.key}: {camera.topic}",
                "pictures that differ, by noise at least",
                f"{len(stream.checksums)} times the same{' while joints moved' * (make is error)}",
                "start its driver anew; only a simulated camera does that at rest",
            )


def swapped(facts: Facts) -> Iterator[Finding]:
    """Whether each camera is where its name says: no two show the same, none another's view."""
    found = _cameras(facts)
    for i, (camera, stream) in enumerate(found):
        for other, another in found[i + 1 :]:
            if set(stream.checksums) & set(another.checksums):
                yield error(
                    f"{other.key}: {other.topic}",
                    "pictures of its own",
                    f"the same as {camera.key} has on {camera.topic}",
                    "correct 'topic' in the contract, or the driver's device",
                )
    references = facts.dataset.pictures if facts.dataset else {}
    seen = [
        (camera.key, small(stream.picture), small(references[camera.key]))
        for camera, stream in found
        if stream.picture is not None and camera.key in references
    ]
    for i, (key, view, known) in enumerate(seen):
        for other_key, other_view, other_known in seen[i + 1 :]:
            straight = _distance(view, known) + _distance(other_view, other_known)
            crossed = _distance(view, other_known) + _distance(other_view, known)
            if crossed < SWAPPED * straight:
                yield error(
                    f"{key}, {other_key}",
                    "the views of the training data",
                    f"each shows what the other had (distance {crossed:.0f} crosswise, "
                    f"{straight:.0f} as they are)",
                    "swap their topics in the contract, or the drivers' devices",
                )


View = NDArray[np.float64]


def small(picture: Pixels) -> View:
    """A picture (H, W, 3) as (12, 16, 3) means of its tiles, brightness as a whole taken away."""
    rows = np.array_split(np.asarray(picture, np.float64), SMALL[0], axis=0)
    tiles = [[t.mean(axis=(0, 1)) for t in np.array_split(r, SMALL[1], axis=1)] for r in rows]
    view = np.array(tiles, dtype=np.float64)
    return np.asarray(view - view.mean())


def _distance(one: View, other: View) -> float:
    """Mean difference of two views, of 255."""
    return float(np.abs(one - other).mean())


def _cameras(facts: Facts) -> list[tuple[Camera, CameraHeard]]:
    contract: Contract | None = facts.contract
    assert contract is not None and facts.cameras is not None
    by_name = {stream.name: stream for stream in facts.cameras}
    pairs: Iterable[tuple[Camera, CameraHeard]] = (
        (camera, by_name[camera.name]) for camera in contract.cameras if camera.name in by_name
    )
    return list(pairs)
