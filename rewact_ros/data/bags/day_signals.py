"""The signals of a day's recorded episodes, for a calibration of one judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rewact_ros.contract import Contract, ContractError, parse_contract
from rewact_ros.data.bags.day import Day
from rewact_ros.data.bags.episode_file import EpisodeRecord
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.data.bags.worked import WorkedEpisode
from rewact_ros.stamps import NANO
from rewact_ros.supervision.calibration import Basis, CalibrationError, CalibrationSettings
from rewact_ros.supervision.episode_signals import CalibrationEpisode, Cut
from rewact_ros.supervision.evidence import Kind, Use, use_of
from rewact_ros.supervision.signals import PolicySample, SignalSettings, SignalTracker
from rewact_ros.supervision.verdict import Termination

if TYPE_CHECKING:
    from rewact_ros.reward.judges import Judge

_GROUPS = ("task", "operator")


@dataclass(frozen=True)
class Score:
    """Whose thresholds are wanted.

    Attributes:
        path: of the judge's checkpoint.
        reward_hash: of what its score depends on.
        contract_hash: it was trained under; "": any robot's with its cameras.
    """

    path: Path
    reward_hash: str
    contract_hash: str = ""


def day_basis(score: Score, day: Day) -> tuple[Contract, Basis]:
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
    if score.contract_hash and score.contract_hash != contract.hash:
        raise CalibrationError(
            f"{day.source.bags}: expected recordings under the checkpoint's contract "
            f"{score.contract_hash[:12]}, got {contract.hash[:12]} ({contract.robot}); choose "
            "recordings of this robot"
        )
    return contract, Basis(
        reward_hash=score.reward_hash,
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


class DaySignals:
    """The signals of a day's episodes, from what was published or, by another judge, anew.

    Attributes:
        again: episodes that the judge had to see again.
    """

    def __init__(
        self, day: Day, score: Score, contract: Contract, settings: CalibrationSettings,
        device: str,
    ) -> None:  # fmt: skip
        if settings.groups and settings.groups not in _GROUPS:
            raise CalibrationError(
                f"groups: expected {' or '.join(_GROUPS)}, which recordings tell, got "
                f"'{settings.groups}'"
            )
        self.again = 0
        self._day, self._score, self._contract = day, score, contract
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
        if set(episode.judges) != {self._score.reward_hash}:
            samples = list(self._again(episode))
        tracker, signals = SignalTracker(settings), []
        resumed_s = list(episode.resumed_s)
        for sample in samples:
            while resumed_s and sample.stamp_s >= resumed_s[0]:
                tracker.resume()
                del resumed_s[0]
            signals.append(tracker.add(sample))
        seen = [s.features for s in samples if s.features is not None]
        features = None
        if len(seen) == len(samples) and len({len(f) for f in seen}) == 1:
            features = np.array(seen, np.float32)
        group = getattr(episode.record, self._settings.groups) if self._settings.groups else ""
        return CalibrationEpisode.of(
            episode.record.episode_id,
            signals,
            features,
            success_frame(episode, kind, samples, self._day.source.reaction_s),
            Cut.SCORE if use is Use.UNKNOWN else Cut.WORK,
            group,
        )

    def _again(self, episode: WorkedEpisode) -> Iterator[PolicySample]:
        """What the judge would have said.

        Raises:
            CalibrationError: the recording lacks what it looks at.
        """
        self.again += 1
        if self._judge is None:
            from rewact_ros.reward.judges import JudgeSettings, open_judge  # torch

            settings = JudgeSettings(self._device)
            self._judge = open_judge(self._score.path, self._contract, settings, print)[0]
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
    episode: WorkedEpisode, kind: Kind, samples: list[PolicySample], reaction_s: float
) -> int | None:
    """The sample by which an episode counts as a success; None: it is none.

    Args:
        episode, kind: how it ended.
        samples: up to its end.
        reaction_s: from the success to the key press.
    """
    if kind is Kind.SUCCESS:
        told_s = episode.succeeded_s
        at_s = episode.end_s - reaction_s if told_s is None else told_s
        return sum(sample.stamp_s < at_s for sample in samples)
    if kind is Kind.CONFIRMED:
        # A person who confirms says that it was complete when the last sample called it so.
        return len(samples) - (episode.ended.termination == Termination.PROGRESS)
    return None
