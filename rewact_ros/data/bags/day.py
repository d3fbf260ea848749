"""A day's recordings of ordinary work, sorted by what each tells about thresholds."""

import math
from collections import Counter
from dataclasses import dataclass, replace

from rewact_ros.data.bags.day_settings import DaySource
from rewact_ros.data.bags.episode_file import EpisodeFileError, episode_folders
from rewact_ros.data.bags.reader import BagError
from rewact_ros.data.bags.worked import WorkedEpisode, read_worked
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.evidence import Kind, Use, kind_of, use_of
from rewact_ros.supervision.standing import Judged
from rewact_ros.supervision.verdict import Termination

_TICK_S = 0.1  # of the supervisor's, and until hil's status tells of it


@dataclass(frozen=True)
class Day:
    """Recordings of one policy's work.

    Attributes:
        source: what was asked for.
        episodes: those that tell something.
        left_out: why others do not -> how many.
        timeout_s: of an episode; infinite: not known.
    """

    source: DaySource
    episodes: list[WorkedEpisode]
    left_out: Counter[str]
    timeout_s: float

    @property
    def driver(self) -> str:
        """Version of the policy that led."""
        return self.episodes[0].record.policy_version if self.episodes else ""

    def kind(self, episode: WorkedEpisode) -> Kind:
        """Row of the table that an episode is in."""
        whole = episode.led_s >= self.timeout_s - _TICK_S
        return kind_of(replace(episode.ended, whole=whole), self.source.leave_unjudged)

    @property
    def standing(self) -> Judged:
        """How many there are of each kind."""
        counts = Counter(self.kind(episode) for episode in self.episodes)
        return Judged(self.driver, {str(kind): count for kind, count in counts.items()})

    def table(self, attended: bool) -> list[tuple[str, int, str]]:
        """Rows: what happened, how often, and what it is taken for."""
        counts = Counter(self.kind(episode) for episode in self.episodes)
        rows = [(str(k), counts[k], str(use_of(k, attended))) for k in Kind if counts[k]]
        left_out = sorted((+self.left_out).items())
        return rows + [(why, n, str(Use.LEFT_OUT)) for why, n in left_out]


def read_days(source: DaySource) -> list[Day]:
    """Read the recordings in a folder, of each policy apart; the newest policy's come last.

    Raises:
        CalibrationError: there are none.
    """
    episodes: dict[str, list[WorkedEpisode]] = {}
    left_out: Counter[str] = Counter()
    for folder in episode_folders(source.bags):
        try:
            found = read_worked(folder)
        except (BagError, EpisodeFileError) as error:
            found = f"not readable: {error}"
        if isinstance(found, str):
            left_out[found] += 1
        else:
            episodes.setdefault(found.record.policy_version, []).append(found)
    if source.driver:
        others = {driver: found for driver, found in episodes.items() if driver != source.driver}
        left_out.update({"another policy led": sum(map(len, others.values()))})
        episodes = {source.driver: episodes.get(source.driver, [])}
    if not any(episodes.values()):
        why = "; ".join(f"{count}: {reason}" for reason, count in left_out.items() if count)
        raise CalibrationError(
            f"{source.bags}: expected recorded episodes in which a policy led, found none"
            + (f" ({why})" if why else "; record them (rewact up --bags-dir, docs/recording.md)")
        )
    days = [
        Day(source, found, left_out if len(episodes) == 1 else Counter(), _timeout_s(source, found))
        for found in episodes.values()
    ]
    return sorted(days, key=lambda day: day.episodes[-1].start_s)


def _timeout_s(source: DaySource, episodes: list[WorkedEpisode]) -> float:
    """As asked for, or the shortest of the episodes that ended by it; infinite: not known."""
    led = [e.led_s for e in episodes if e.ended.termination == Termination.TIMEOUT]
    return source.timeout_s or (math.floor(min(led) * 10) / 10 if led else math.inf)


def only_day(source: DaySource) -> Day:
    """The recordings of the one policy that led.

    Raises:
        CalibrationError: several led, or the time-out is not known.
    """
    days = read_days(source)
    if len(days) == 1 and math.isinf(days[0].timeout_s):
        raise CalibrationError(
            f"{source.bags}: the episodes' time-out is not known, since none ended by it; give "
            "--timeout"
        )
    if len(days) > 1:
        led = ", ".join(f"{day.driver or 'unknown'} ({len(day.episodes)})" for day in days)
        raise CalibrationError(
            f"{source.bags}: expected episodes of one policy, got those of {led}; choose one with "
            "--driver"
        )
    return days[0]
