"""`rewact calibrate --bags`: recordings of ordinary work -> what each tells about thresholds."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rewact_ros.contract import Contract, ContractError, parse_contract
from rewact_ros.data.bags.episode_file import EpisodeFileError, EpisodeRecord, episode_folders
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.data.bags.worked import WorkedEpisode, read_worked
from rewact_ros.reward.judges import Judge, JudgeSettings, open_judge
from rewact_ros.stamps import NANO
from rewact_ros.supervision.calibration import Basis, CalibrationError, CalibrationSettings
from rewact_ros.supervision.episode_signals import CalibrationEpisode, Cut
from rewact_ros.supervision.evidence import Ended, Kind, Use, kind_of, use_of
from rewact_ros.supervision.signals import PolicySample, SignalSettings, SignalTracker
from rewact_ros.supervision.standing import Judged
from rewact_ros.supervision.verdict import Termination

from .scorers import Scorer
from .settings import BagSource

_TICK_S = 0.1  # of the supervisor's, and until hil's status tells of it
_GROUPS = ("task", "operator")


@dataclass
class Day:
    """Recordings of one policy's work.

    Attributes:
        source: what was asked for.
        episodes: those that tell something.
        left_out: why others do not -> how many.
        timeout_s: of an episode.
    """

    source: BagSource
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
        return rows + [(why, n, str(Use.LEFT_OUT)) for why, n in sorted(self.left_out.items())]


def read_days(source: BagSource) -> list[Day]:
    """Read the recordings in a folder, of each policy apart; the newest policy's come last.

    Raises:
        CalibrationError: there are none, or the time-out is not known.
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
        others = sum(len(v) for driver, v in episodes.items() if driver != source.driver)
        left_out["another policy led"] += others
        episodes = {source.driver: episodes.get(source.driver, [])}
    if not any(episodes.values()):
        why = "; ".join(f"{count}: {reason}" for reason, count in (+left_out).items())
        raise CalibrationError(
            f"{source.bags}: expected recorded episodes in which a policy led, found none"
            + (f" ({why})" if why else "; record them (rewact up --bags-dir, docs/recording.md)")
        )
    days = [
        Day(source, found, left_out if len(episodes) == 1 else Counter(), _timeout_s(source, found))
        for found in episodes.values()
    ]
    return sorted(days, key=lambda day: day.episodes[-1].start_s)


def _timeout_s(source: BagSource, episodes: list[WorkedEpisode]) -> float:
    """As asked for, or the shortest of the episodes that ended by it."""
    led = [e.led_s for e in episodes if e.ended.termination == Termination.TIMEOUT]
    if source.timeout_s or led:
        return source.timeout_s or math.floor(min(led) * 10) / 10
    raise CalibrationError(
        f"{source.bags}: the episodes' time-out is not known, since none ended by it; give "
        "--timeout"
    )


def only_day(source: BagSource) -> Day:
    """The recordings of the one policy that led.

    Raises:
        CalibrationError: several led.
    """
    days = read_days(source)
    if len(days) > 1:
        led = ", ".join(f"{day.driver or 'unknown'} ({len(day.episodes)})" for day in days)
        raise CalibrationError(
            f"{source.bags}: expected episodes of one policy, got those of {led}; choose one with "
            "--driver"
        )
    return days[0]


def bag_basis(scorer: Scorer, day: Day) -> tuple[Contract, Basis]:
    """The contract of the recordings, and what a calibration on them rests on.

    Raises:
        CalibrationError: no contract, several, or another than the checkpoint's.
    """
    contracts = {e.record.contract_hash: e.record for e in day.episodes}
    if len(contracts) > 1:
        raise CalibrationError(
            f"{day.source.bags}: expected recordings under one contract, got {len(contracts)} "
            f"({', '.join(hash_[:12] or 'none' for hash_ in contracts)}); calibrate them apart"
        )
    contract = _contract(day.episodes[0].path, day.episodes[0].record)
    if scorer.contract is not None and scorer.contract["hash"] != contract.hash:
        raise CalibrationError(
            f"{day.source.bags}: expected recordings under the checkpoint's contract "
            f"{scorer.contract['hash'][:12]}, got {contract.hash[:12]} ({contract.robot}); choose "
            "recordings of this robot"
        )
    return contract, Basis(
        reward_hash=scorer.reward_hash,
        policy_version=day.driver,
        contract_hash=contract.hash,
        cameras=tuple(camera.key for camera in contract.cameras),
        rate_hz=contract.rate_hz,
        timeout_s=day.timeout_s,
    )


def _contract(path: Path, record: EpisodeRecord) -> Contract:
    if record.contract is None:
        raise CalibrationError(f"{path}: was recorded without a contract; record with --contract")
    try:
        return parse_contract(record.contract, path)
    except ContractError as error:
        raise CalibrationError(f"{path}: contract: {error}") from error


class Measured:
    """The signals of a day's episodes, from what was published or, by another judge, anew.

    Attributes:
        again: episodes that the scorer had to see again.
    """

    def __init__(
        self, day: Day, scorer: Scorer, contract: Contract, settings: CalibrationSettings,
        device: str,
    ) -> None:  # fmt: skip
        if settings.groups and settings.groups not in _GROUPS:
            raise CalibrationError(
                f"groups: expected {' or '.join(_GROUPS)}, which recordings tell, got "
                f"'{settings.groups}'"
            )
        self.again = 0
        self._day, self._scorer, self._contract = day, scorer, contract
        self._settings, self._device = settings, device
        self._judge: Judge | None = None

    def episodes(self, signals: SignalSettings) -> list[CalibrationEpisode]:
        """What each tells; those that are left out are none of them."""
        found = []
        for episode in self._day.episodes:
            kind = self._day.kind(episode)
            use = use_of(kind, self._settings.attended)
            if use is not Use.LEFT_OUT:
                found.append(self._episode(episode, kind, use, signals))
        return found

    def _episode(
        self, episode: WorkedEpisode, kind: Kind, use: Use, settings: SignalSettings
    ) -> CalibrationEpisode:
        samples = episode.samples
        if set(episode.judges) != {self._scorer.reward_hash}:
            samples = list(self._again(episode))
        tracker, signals = SignalTracker(settings), []
        for number, sample in enumerate(samples):
            if number in episode.resumed:
                tracker.resume()
            signals.append(tracker.add(sample))
        known = [s.features for s in samples]
        features = None
        if self._scorer.features and all(f is not None for f in known):
            features = np.array(known, np.float32)
        group = getattr(episode.record, self._settings.groups) if self._settings.groups else ""
        return CalibrationEpisode.of(
            episode.record.episode_id,
            signals,
            features,
            success_frame(
                episode.ended, kind, samples, episode.end_s - self._day.source.reaction_s
            ),
            Cut.SCORE if use is Use.UNKNOWN else Cut.WORK,
            group,
        )

    def _again(self, episode: WorkedEpisode) -> Iterator[PolicySample]:
        """What the scorer would have said.

        Raises:
            CalibrationError: the recording lacks what it looks at.
        """
        self.again += 1
        if self._judge is None:
            settings = JudgeSettings(self._device)
            self._judge = open_judge(self._scorer.path, self._contract, settings, print)[0]
        self._judge.reset()
        try:
            with Bag(episode.path, episode.record.namespace) as bag:
                for frame in BagFrames(bag, self._contract, ages=True).read():
                    stamp_s = frame.stamp_ns / NANO
                    if episode.start_s <= stamp_s < episode.end_s:
                        said = self._judge.infer(frame.values, stamp_s)
                        q10 = None if said.quantiles is None else said.quantiles[0]
                        yield PolicySample(stamp_s, said.reward, q10, said.entropy, said.features)
        except BagError as error:
            raise CalibrationError(
                f"{error}; another judge spoke in this recording, and without its pictures this "
                "one cannot look at it"
            ) from error


def success_frame(
    ended: Ended, kind: Kind, samples: list[PolicySample], pressed_s: float
) -> int | None:
    """The sample by which an episode counts as a success; None: it is none.

    Args:
        ended, kind: how it ended.
        samples: up to its end.
        pressed_s: when the key was pressed, less the reaction.
    """
    if kind is Kind.SUCCESS:
        return sum(sample.stamp_s < pressed_s for sample in samples)
    if kind is Kind.CONFIRMED:
        # A person who confirms says that it was complete when the last sample called it so.
        return len(samples) - (ended.termination == Termination.PROGRESS)
    return None
