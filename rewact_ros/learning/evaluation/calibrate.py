"""`rewact calibrate`: recorded roll-outs -> the monitor's signals per episode -> thresholds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.utils.constants import OBS_STATE
from numpy.typing import NDArray
from tqdm import tqdm

from rewact_ros.data.dataset.info import DatasetError, parse_episodes, read_json, recorded_signature
from rewact_ros.learning.imitation.demonstrations import (
    Demonstrations,
    load_demonstrations,
)
from rewact_ros.learning.imitation.origin import acts_as, identities, taught_episodes
from rewact_ros.learning.imitation.teaching import SUCCESS
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.reward.judge_check import JudgeCheck, check_judge, horizon
from rewact_ros.supervision.calibration import Basis, CalibrationError
from rewact_ros.supervision.conformal import CalibrationEpisode
from rewact_ros.supervision.signals import PolicySample, SignalSettings, SignalTracker

from .judging import joints_scores
from .settings import RolloutSource

_BATCH = 64  # frames at once: memory against speed, the signals are the same


def signal_settings(loaded: LoadedPolicy, **changes: Any) -> SignalSettings:
    """The usual settings, judging by q10 where the policy's head gives quantiles.

    Raises:
        CalibrationError: the policy has no reward head.
    """
    head = loaded.config.reward_head
    if head == "none":
        raise CalibrationError(f"{loaded.path}: reward_head is none: it predicts nothing to judge")
    return SignalSettings(level="q10" if head == "distributional" else "mean", **changes)


def rollout_basis(loaded: LoadedPolicy, source: RolloutSource) -> Basis:
    """What a calibration of this policy on these roll-outs rests on.

    Raises:
        CalibrationError: the policy has no contract, the dataset does not fit it, or the time-out
            is not known.
        DatasetError: no dataset.
    """
    if loaded.contract is None:
        raise CalibrationError(
            f"{loaded.path}: expected contract.json, found none; train with --contract"
        )
    signature = loaded.contract["signature"]
    _check_fit(signature, recorded_signature(source.dataset), source.dataset)
    limit_s, driver = _as_recorded(source.dataset)
    timeout_s = source.timeout_s or limit_s
    if not timeout_s > 0:
        raise CalibrationError(
            f"{source.dataset}: the roll-outs' time-out is not known (no meta/rollouts.json); "
            "give --timeout"
        )
    return Basis(
        reward_hash=loaded.reward_hash,
        policy_version=_driver(loaded, source.driver or driver),
        contract_hash=loaded.contract["hash"],
        cameras=tuple(loaded.config.image_features),
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

    def require_untaught(self, loaded: LoadedPolicy) -> None:
        """Refuse roll-outs that the policy's reward has learned from: it knows them by heart.

        Raises:
            CalibrationError: names them, and how to choose others.
        """
        taught, found = taught_episodes(loaded.path), identities(self._data, self._chosen)
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

    def check(self, measured: list[CalibrationEpisode]) -> JudgeCheck:
        """Tell whether the measured reward is a judge, by what completion is judged by."""
        succeeds = np.array([episode.success is not None for episode in measured])
        limit = horizon([len(episode.held) for episode in measured], succeeds)
        scores = [np.nan_to_num(episode.held[:limit]).max() for episode in measured]
        states = [self._data.state[self._data.rows([index])] for index in self._chosen]
        done = [episode.success for episode in measured]
        joints = joints_scores(states, done, limit, self._data.fps)
        return check_judge(np.array(scores), succeeds, joints)

    def measure(self, loaded: LoadedPolicy, settings: SignalSettings) -> list[CalibrationEpisode]:
        """Let the policy see the roll-outs again, and make the monitor's signals of each."""
        self._data.decode(loaded.config.image_size, self._chosen, self._cache)
        bar = tqdm(self._chosen, desc="signals", unit="episode", mininterval=1)
        return [self._measure(loaded, index, settings) for index in bar]

    def _measure(
        self, loaded: LoadedPolicy, index: int, settings: SignalSettings
    ) -> CalibrationEpisode:
        tracker, signals, features = SignalTracker(settings), [], []
        for sample in _samples(loaded, self._data, self._data.rows([index])):
            signals.append(tracker.add(sample))
            features.append(sample.features)
        name = f"{self._data.source.root.name}: episode {index}"
        return CalibrationEpisode.of(
            name, signals, np.array(features, np.float32), self._success[index]
        )


def _samples(
    loaded: LoadedPolicy, data: Demonstrations, rows: NDArray[np.integer]
) -> Iterator[PolicySample]:
    """What the policy would have published at each frame of an episode."""
    keys = [OBS_STATE, *data.camera_shapes]
    for first in range(0, len(rows), _BATCH):
        batch = data.batch(rows[first : first + _BATCH], 1, loaded.config.n_obs_steps)
        estimate = loaded.predict({key: batch[key] for key in keys if key in batch})
        reward = estimate.reward
        # `signal_settings` refuses a policy without a reward head.
        assert reward is not None and estimate.features is not None
        mean, features = (
            column.float().cpu().numpy() for column in (reward.value, estimate.features)
        )
        quantiles, entropy = (
            None if column is None else column.float().cpu().numpy()
            for column in (reward.quantiles, reward.entropy)
        )
        for i in range(len(mean)):
            yield PolicySample(
                stamp_s=(first + i) / data.fps,
                mean=float(mean[i]),
                q10=None if quantiles is None else float(quantiles[i, 0]),
                entropy=None if entropy is None else float(entropy[i]),
                features=features[i],
            )


def _driver(loaded: LoadedPolicy, version: str) -> str:
    """Who drove; a policy of which only the reward was trained since acts bit for bit the same."""
    return loaded.version if version in acts_as(loaded.path) else version


def _ranges(episodes: list[int]) -> str:
    """Episode numbers as `parse_episodes` reads them."""
    starts = [e for e in episodes if e - 1 not in episodes]
    ends = [e for e in episodes if e + 1 not in episodes]
    pairs = zip(starts, ends, strict=True)
    return ",".join(str(a) if a == b else f"{a}:{b + 1}" for a, b in pairs)


def _as_recorded(dataset: Path) -> tuple[float, str]:
    """Time-out in s and driver's version, as `meta/rollouts.json` says; 0 and "" without one."""
    file = dataset / "meta" / "rollouts.json"
    if not file.is_file():
        return 0.0, ""
    report = read_json(file, dataset)
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
