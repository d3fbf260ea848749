"""`rewact calibrate`: recorded roll-outs -> the monitor's signals per episode -> thresholds."""

from pathlib import Path
from typing import Any

import numpy as np
from lerobot.utils.constants import OBS_IMAGES
from tqdm import tqdm

from rewact_ros.data.dataset.info import DatasetError, parse_episodes, read_json, recorded_signature
from rewact_ros.episodes.verdicts import ROLLOUTS, read_rollouts
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.learning.imitation.origin import acts_as, identities, taught_episodes
from rewact_ros.learning.imitation.teaching import SUCCESS
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.reward.judge_check import JudgeCheck, check_judge, horizon
from rewact_ros.supervision.calibration import Basis, Calibration, CalibrationError
from rewact_ros.supervision.episode_signals import CalibrationEpisode
from rewact_ros.supervision.signals import PLAIN, Signals, SignalSettings, SignalTracker
from rewact_ros.supervision.world import World

from .judging import joints_scores
from .scorers import PolicyScorer, Scorer
from .seen_world import seen_world
from .settings import RolloutSource


def signal_settings(loaded: LoadedPolicy) -> SignalSettings:
    """The usual settings, judging by q10 where the policy's head gives quantiles.

    Raises:
        CalibrationError: the policy has no reward head.
    """
    return SignalSettings(level=PolicyScorer(loaded).level)


def rollout_basis(scorer: Scorer, source: RolloutSource) -> Basis:
    """What a calibration of this score on these roll-outs rests on.

    Raises:
        CalibrationError: neither the checkpoint nor the roll-outs have a contract, the dataset does
            not fit it, or the time-out is not known.
        DatasetError: no dataset.
    """
    contract = scorer.contract or _contract_of(source.dataset)
    if contract is None:
        raise CalibrationError(
            f"{scorer.path}: expected contract.json, found none; train with --contract"
        )
    signature = contract["signature"]
    if scorer.contract is not None:
        _check_fit(signature, recorded_signature(source.dataset), source.dataset)
    cameras = _cameras(scorer, signature)
    limit_s, driver = _as_recorded(source.dataset)
    timeout_s = source.timeout_s or limit_s
    if not timeout_s > 0:
        raise CalibrationError(
            f"{source.dataset}: the roll-outs' time-out is not known (no meta/rollouts.json); "
            "give --timeout"
        )
    return Basis(
        reward_hash=scorer.reward_hash,
        policy_version=_driver(scorer, source.driver or driver),
        contract_hash=contract["hash"],
        cameras=cameras,
        rate_hz=float(signature["rate_hz"]),
        timeout_s=timeout_s,
    )


class Rollouts:
    """Recorded roll-outs and when each succeeded; their videos are read by ``measure`` only.

    Raises:
        DatasetError: no such dataset or episodes.
        CalibrationError: the dataset does not tell when an episode succeeded.
    """

    def __init__(self, source: RolloutSource) -> None:
        self._data = data = load_demonstrations(source.dataset, labels_needed=False)
        self._cache = source.cache
        self._groups: dict[int, str] = {}
        self._signals: list[list[Signals]] = []
        if SUCCESS not in data.source.meta.features:
            raise CalibrationError(
                f"{source.dataset}: has no column {SUCCESS}, so nobody knows which roll-outs "
                "succeeded and when; record with `rewact eval --record`, or label the outcomes"
            )
        total = int(data.source.meta.total_episodes)
        self._chosen = parse_episodes(source.episodes or f"0:{total}", total)
        table = data.source.hf_dataset.with_format("numpy")
        success = np.asarray(table[SUCCESS]).reshape(-1).astype(bool)
        frames = {index: np.flatnonzero(success[data.rows([index])]) for index in self._chosen}
        self._success = {i: int(found[0]) if len(found) else None for i, found in frames.items()}

    def count(self, timeout_s: float) -> tuple[int, int]:
        """How many roll-outs there are, and how many of them succeed in time."""
        limit = round(timeout_s * self._data.fps)
        in_time = [frame for frame in self._success.values() if frame is not None and frame < limit]
        return len(self._chosen), len(in_time)

    def require_untaught(self, checkpoint: Path) -> None:
        """Refuse roll-outs that taught a checkpoint's score: it knows them by heart.

        Raises:
            CalibrationError: names them, and how to choose others.
        """
        taught, found = taught_episodes(checkpoint), identities(self._data, self._chosen)
        known = [key for key in found if key in taught]
        if not known:
            return
        numbers = {index for key, index in zip(found, self._chosen, strict=True) if key in taught}
        rest = [index for index in self._chosen if index not in numbers]
        raise CalibrationError(
            f"{len(known)} of {len(found)} roll-outs taught this reward ({found[known[0]]}, as "
            f"{taught[known[0]]}), and a bound on them would be none; record others"
            + (f", or leave these out: --episodes {_ranges(rest)}" if rest else "")
        )

    def check(self, measured: list[CalibrationEpisode], rule: str = PLAIN) -> JudgeCheck:
        """Tell whether the measured reward is a judge, by what completion is judged by."""
        succeeds = np.array([episode.success is not None for episode in measured])
        limit = horizon([len(episode.held) for episode in measured], succeeds)
        scores = [np.nan_to_num(episode.known(rule)[:limit]).max() for episode in measured]
        states = [self._data.state[self._data.rows([index])] for index in self._chosen]
        done = [episode.success for episode in measured]
        joints = joints_scores(states, done, limit, self._data.fps)
        return check_judge(np.array(scores), succeeds, joints)

    def measure(
        self, scorer: Scorer, settings: SignalSettings, groups: str = ""
    ) -> list[CalibrationEpisode]:
        """Let the scorer see the roll-outs again, and make the monitor's signals of each.

        Raises:
            CalibrationError: the roll-outs have no such column of groups.
        """
        self._groups = self._groups_of(groups)
        self._data.decode(scorer.image_size, self._chosen, self._cache)
        self._signals = []
        bar = tqdm(self._chosen, desc="signals", unit="episode", mininterval=1)
        return [self._measure(scorer, index, settings) for index in bar]

    def world(self, measured: list[CalibrationEpisode], calibration: Calibration) -> World:
        """What is compared with what runs, after ``measure``."""
        return seen_world(self._data, self._chosen, self._signals, measured, calibration)

    def _measure(self, scorer: Scorer, index: int, settings: SignalSettings) -> CalibrationEpisode:
        tracker, features = SignalTracker(settings), []
        signals: list[Signals] = []
        for sample in scorer.samples(self._data, self._data.rows([index])):
            signals.append(tracker.add(sample))
            features.append(sample.features)
        self._signals.append(signals)
        name = f"{self._data.source.root.name}: episode {index}"
        seen = np.array(features, np.float32) if scorer.features else None
        group = self._groups.get(index, "")
        return CalibrationEpisode.of(name, signals, seen, self._success[index], group=group)

    def _groups_of(self, key: str) -> dict[int, str]:
        """Group of each episode by what its first frame has in a column; ``task`` is its text."""
        if not key:
            return {}
        table = self._data.source.hf_dataset
        rows = {index: int(self._data.rows([index])[0]) for index in self._chosen}
        if key == "task":
            tasks = self._data.source.meta.tasks["task_index"]
            names = {int(number): str(text) for text, number in tasks.items()}
            numbers = table.with_format("numpy")["task_index"]
            return {index: names[int(numbers[row])] for index, row in rows.items()}
        if key not in table.column_names:
            raise CalibrationError(
                f"groups: expected task or a column of the roll-outs, got '{key}'; they have "
                f"{', '.join(table.column_names)}"
            )
        column = table.with_format("numpy")[key]
        return {index: str(np.asarray(column[row]).item()) for index, row in rows.items()}


def _driver(scorer: Scorer, version: str) -> str:
    """Who drove; a policy of which only the reward was trained since acts bit for bit the same."""
    return scorer.version if version in acts_as(scorer.path) else version


def _contract_of(dataset: Path) -> dict[str, Any] | None:
    """``{"hash", "signature"}`` that a dataset was recorded under; None: it does not say."""
    file = dataset / "meta" / "contract.json"
    if not file.is_file():
        return None
    found = read_json(file, dataset)
    if not isinstance(found.get("hash"), str):
        raise DatasetError(f"{file}: hash: expected a text, got none; copy the dataset anew")
    return {"hash": found["hash"], "signature": recorded_signature(dataset)}


def _cameras(scorer: Scorer, signature: dict[str, Any]) -> tuple[str, ...]:
    """The robot's cameras, as the supervisor compares them; a scorer may look at fewer."""
    if scorer.contract is not None:
        return scorer.cameras
    return tuple(key for key in signature["features"] if key.startswith(f"{OBS_IMAGES}."))


def _ranges(episodes: list[int]) -> str:
    """Episode numbers as `parse_episodes` reads them."""
    starts = [e for e in episodes if e - 1 not in episodes]
    ends = [e for e in episodes if e + 1 not in episodes]
    pairs = zip(starts, ends, strict=True)
    return ",".join(str(a) if a == b else f"{a}:{b + 1}" for a, b in pairs)


def _as_recorded(dataset: Path) -> tuple[float, str]:
    """Time-out in s and driver's version, as `meta/rollouts.json` says; 0 and "" without one."""
    file = dataset / ROLLOUTS
    if not file.is_file():
        return 0.0, ""
    report = read_rollouts(dataset)
    try:
        limit_s = float(report.get("settings", {}).get("limit_s", 0))
        return limit_s, str(report.get("policy", {}).get("version", ""))
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{file}: expected settings.limit_s in s and policy.version, got neither; record anew"
        ) from error


def _check_fit(own: dict[str, Any], other: dict[str, Any], dataset: Path) -> None:
    """Refuse a dataset of another robot; what it does not tell, such as units, is not compared."""
    pairs = [("rate_hz", own["rate_hz"], other["rate_hz"])]
    for key, feature in own["features"].items():
        got = other["features"].get(key, {"shape": "no such feature"})
        pairs += [(f"{key}.{f}", feature[f], got[f]) for f in feature if f in got]
    for name, expected, got in pairs:
        if expected != got:
            raise CalibrationError(
                f"{dataset}: {name}: expected {expected} as in the checkpoint's contract, got "
                f"{got}; choose roll-outs of this robot"
            )
