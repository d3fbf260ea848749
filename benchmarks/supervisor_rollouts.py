"""Roll-outs for the supervisor's figures: per inference what the policy says and what is true.

In process and as fast as the machine allows, judging off: a failure runs to the time-out, a success
goes on for `SETTINGS.hold_s`. Every episode is a file of its own, so that a collection which was
cut short goes on where it stopped.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shared_engine import roll_outs_side_by_side

from rewact_ros.contract import Contract, load_contract
from rewact_ros.episodes.rollout import Trace
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.files import replacing_file
from rewact_ros.learning.evaluation.calibrate import signal_settings
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy
from rewact_ros.policy.compatibility import check_contract
from rewact_ros.policy.engine import Prediction
from rewact_ros.sim.pick_place.task import PickPlace
from rewact_ros.sim.pick_place.truth import FAILURES, STAGES
from rewact_ros.sim.timing import RATE_HZ
from rewact_ros.stack.bringup import default_contract
from rewact_ros.supervision.calibration import Basis
from rewact_ros.supervision.signals import PolicySample, SignalSettings, SignalTracker

SETTINGS = RolloutSettings(limit_s=20.0, hold_s=3.0)
_ABOUT = "collection.json"


@dataclass(frozen=True)
class Recorded:
    """One roll-out of N inferences at the contract's rate.

    Attributes:
        seed: of the scene.
        mean, q10, entropy: (N,) float32, of the predicted progress.
        features: (N, D) float32, pooled policy features; D 0: whoever scored tells none.
        disagreement: (N,) float32, of overlapping chunks; NaN at the first.
        success: (N,) bool, the truth.
        stage, failure: (N,) int8, indices of `STAGES` and `FAILURES`.
        closed_s: when the scripted expert would have closed its fingers on the cube.
    """

    seed: int
    mean: NDArray[np.float32]
    q10: NDArray[np.float32]
    entropy: NDArray[np.float32]
    features: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    success: NDArray[np.bool_]
    stage: NDArray[np.int8]
    failure: NDArray[np.int8]
    closed_s: float


@dataclass(frozen=True)
class Collection:
    """The roll-outs of one policy, and what a calibration on them rests on."""

    basis: Basis
    signals: SignalSettings
    episodes: list[Recorded]


def collect(policy: Path, seeds: Iterable[int], out: Path) -> Collection:
    """Record the scenes that `out`/<policy version> does not hold yet, and read them all.

    Raises:
        ValueError: the folder holds roll-outs of other settings.
    """
    loaded = load_policy(policy, "cpu")
    contract = load_contract(default_contract())
    check_contract(loaded, contract)
    folder = out / loaded.version
    folder.mkdir(parents=True, exist_ok=True)
    basis, signals = _describe(folder, loaded), signal_settings(loaded)
    seeds = list(seeds)
    missing = [seed for seed in seeds if not _file(folder, seed).exists()]
    if missing:
        _record(loaded, contract, missing, folder, signals)
    return Collection(basis, signals, list(_read(folder, seeds)))


def _record(
    loaded: LoadedPolicy,
    contract: Contract,
    seeds: list[int],
    folder: Path,
    signals: SignalSettings,
) -> None:
    """Record scenes."""
    height, width = contract.cameras[0].shape[:2]

    def keep(seed: int, trace: Trace) -> None:
        write_one(_file(folder, seed), _arrays(trace, signals))

    roll_outs_side_by_side(
        loaded, seeds, SETTINGS, lambda: PickPlace(width, height), keep, "roll-outs"
    )


def _file(folder: Path, seed: int) -> Path:
    return folder / f"{seed}.npz"


def _describe(folder: Path, loaded: LoadedPolicy) -> Basis:
    """Write what the roll-outs rest on, or check it where some lie there already."""
    assert loaded.contract is not None  # compatibility was checked
    basis = Basis(
        reward_hash=loaded.reward_hash,
        policy_version=loaded.version,
        contract_hash=loaded.contract["hash"],
        cameras=tuple(loaded.config.image_features),
        rate_hz=float(loaded.contract["signature"]["rate_hz"]),
        timeout_s=SETTINGS.limit_s,
    )
    about = {"basis": asdict(basis), "settings": asdict(SETTINGS)}
    text, file = json.dumps(about, indent=1) + "\n", folder / _ABOUT
    if not file.exists():
        file.write_text(text)
    elif file.read_text() != text:
        raise ValueError(
            f"{file}: the roll-outs there were made with other settings than these: {text}; "
            "move that folder away"
        )
    return basis


def _arrays(trace: Trace, signals: SignalSettings) -> dict[str, np.ndarray]:
    """Arrays of `Recorded`; asked at every frame, the policy has said something at each."""
    tracker, said = SignalTracker(signals), [p for p in trace.predictions if p is not None]
    disagreement = []
    for frame, p in enumerate(said):
        sample = PolicySample(
            frame / RATE_HZ, p.reward, q10_of(p.quantiles), actions=p.actions, step_s=1 / RATE_HZ
        )
        disagreement.append(tracker.add(sample).disagreement)
    return arrays_of(trace, said, disagreement)


def arrays_of(
    trace: Trace, said: list[Prediction], disagreement: list[float]
) -> dict[str, np.ndarray]:
    """Arrays of `Recorded`: what was said at each frame (N,), and what was true."""
    unknown = float("nan")
    features = [np.zeros(0, np.float32) if p.features is None else p.features for p in said]
    assert trace.expert is not None
    return {
        "mean": np.array([unknown if p.reward is None else p.reward for p in said], np.float32),
        "q10": np.array([q10_of(p.quantiles) for p in said], np.float32),
        "entropy": np.array([unknown if p.entropy is None else p.entropy for p in said], "f4"),
        "features": np.array(features, np.float32),
        "disagreement": np.array(disagreement, np.float32),
        "success": np.array([truth.success for truth in trace.truths]),
        "stage": np.array([STAGES.index(truth.stage) for truth in trace.truths], np.int8),
        "failure": np.array([FAILURES.index(truth.failure) for truth in trace.truths], np.int8),
        "closed_s": np.array(trace.expert.current.closed_s),
    }


def q10_of(quantiles: tuple[float, float, float] | None) -> float:
    """The lowest of a head's quantiles; NaN where it has none."""
    return float("nan") if quantiles is None else quantiles[0]


def write_one(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays of a `Recorded`, whole or not at all."""
    with replacing_file(file) as whole:
        np.savez(whole, **arrays)


def _read(folder: Path, seeds: list[int]) -> Iterator[Recorded]:
    for seed in seeds:
        yield read_one(_file(folder, seed), seed)


def read_one(file: Path, seed: int) -> Recorded:
    """The roll-out that `write_one` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        fields = {name: arrays[name] for name in arrays.files}
    return Recorded(seed=seed, **{**fields, "closed_s": float(fields["closed_s"])})
