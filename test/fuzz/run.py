"""Runs a target's cases: each within seconds, all within a bound of memory, nothing unnamed."""

import hashlib
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

CORPUS = Path(__file__).parent / "corpus"
MOST_CASE_S = 10.0
# One chunk of a recording may have 256 MiB, of which a reader holds two copies for a moment.
MOST_GROWTH_BYTES = 768 << 20
BATCH = 200


@dataclass(frozen=True)
class Target:
    """A reader of what strangers give.

    Attributes:
        name: also of its folder in `corpus/`.
        prepare: folder of its own → (cases, what reads one).
        refusals: errors that the reader's docstring names; any other is a crash.
        cases: how many CI tries.
        hostile: further cases that are always tried, too large to be stored.
    """

    name: str
    prepare: Callable[[Path], tuple[SearchStrategy[bytes], Callable[[bytes], object]]]
    refusals: tuple[type[BaseException], ...]
    cases: int = 150
    hostile: Callable[[], Sequence[bytes]] = tuple


@dataclass
class Tally:
    """What came of a target's cases."""

    name: str
    read: int = 0
    refused: int = 0
    crashes: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    growth_bytes: int = 0
    cpu_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.name:22} {self.read + self.refused + len(self.crashes):7} cases "
            f"{self.refused:7} refused {self.read:7} read {len(self.crashes):3} crashes  longest "
            f"{self.longest_s:5.2f} s  memory +{self.growth_bytes >> 20} MiB  {self.cpu_s:.1f} s"
        )


class Hang(BaseException):
    """A case took too long; no reader catches it."""


def run(target: Target, folder: Path, seconds: float = 0.0) -> Tally:
    """Try the stored corpus of a target, then its cases.

    Args:
        target: to try.
        folder: empty, for its files.
        seconds: how long to try ever new cases; 0: the same `cases` each time. What crashes then
            is stored in the corpus.
    """
    tally = Tally(target.name)
    cases, read = target.prepare(folder)
    always = [(file.name, file.read_bytes()) for file in stored(target)]
    always += [(f"hostile {k}", data) for k, data in enumerate(target.hostile())]
    start_bytes, start_s = _reset_peak(), time.process_time()
    for name, data in always:
        try:
            _try(target, read, data, tally)
        except (Exception, Hang) as error:
            tally.crashes.append(f"{name}: {_line(error, data)}")
    number, end_s = 0, time.monotonic() + seconds
    while number == 0 or time.monotonic() < end_s:
        count = BATCH if seconds else target.cases
        if crash := _batch(target, cases, read, tally, count, number if seconds else None):
            if seconds:
                _store(target, crash)
            break
        number += 1
    tally.growth_bytes = max(_peak_bytes() - start_bytes, 0)
    tally.cpu_s = time.process_time() - start_s
    return tally


def stored(target: Target) -> list[Path]:
    """The files of a target's corpus."""
    return sorted((CORPUS / target.name).glob("*"))


def _batch(
    target: Target,
    cases: SearchStrategy[bytes],
    read: Callable[[bytes], object],
    tally: Tally,
    count: int,
    number: int | None,
) -> bytes | None:
    """The smallest case that crashes; None: none does."""
    smallest: list[bytes] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=number is None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(cases)
    def every(data: bytes) -> None:
        try:
            _try(target, read, data, tally)
        except BaseException:
            smallest[:] = [data]
            raise

    try:
        (every if number is None else seed(number)(every))()
    except (Exception, Hang) as error:
        tally.crashes.append(_line(error, smallest[-1] if smallest else b""))
        return smallest[-1] if smallest else b""
    return None


def _try(target: Target, read: Callable[[bytes], object], data: bytes, tally: Tally) -> None:
    start_s = time.process_time()
    try:
        with _limited(data):
            read(data)
        tally.read += 1
    except target.refusals as error:
        tally.refused += 1
        str(error).encode()  # a terminal, too, must be able to say it
    finally:
        took_s = time.process_time() - start_s
        tally.longest_s = max(tally.longest_s, took_s)


@contextmanager
def _limited(data: bytes) -> Iterator[None]:
    """End what computes for too long; of what waits for too long pytest-timeout is told."""

    def end(_: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {MOST_CASE_S:g} s over {len(data)} bytes")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_CASE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _line(error: BaseException, data: bytes) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "rewact_ros/" in code.co_filename:
            place = f"{code.co_filename.rpartition('rewact_ros/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    shown = data if len(data) <= 300 else data[:150] + b" ... " + data[-150:]
    return f"{type(error).__name__}: {str(error)[:300]} ({place}) of {len(data)} bytes {shown!r}"


def _store(target: Target, data: bytes) -> None:
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"crash-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)


def _reset_peak() -> int:
    """Let the peak of this process's memory begin now (Linux); returns what it has, bytes."""
    with suppress(OSError):  # else the peak before counts too: growth is what lies above it
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_bytes()


def _peak_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
