"""The monitor's calibrated thresholds: what they promise, where they hold, and their file.

How they are made: ``conformal``.
"""

import base64
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros import strict_yaml
from rewact_ros.files import replace_file
from rewact_ros.formats import FormatError, require_format
from rewact_ros.reward.judge_check import JudgeCheck
from rewact_ros.settings import check, setting
from rewact_ros.supervision.alarms import calibrated
from rewact_ros.supervision.signals import (
    COMPLETIONS,
    ENGAGED,
    FeatureDistance,
    SignalSettings,
)
from rewact_ros.supervision.world import World, read_world
from rewact_ros.text import printable, reason

FORMAT = 1
_ANEW = "make it anew by `rewact calibrate`"


class CalibrationError(ValueError):
    """A calibration that cannot be made or used; says what, where, expected, got, mend."""


@dataclass(frozen=True)
class Bound:
    """A threshold that a new episode's score exceeds with a probability of at most ``rate``.

    Attributes:
        rate: asked for.
        n: episodes that it rests on.
        rank: the threshold is the rank-th smallest of their scores.
        threshold: exceeded means strictly more.
    """

    rate: float
    n: int
    rank: int
    threshold: float

    @property
    def quantile(self) -> float:
        """What was achieved: a new score stays within with at least this probability."""
        return self.rank / (self.n + 1)


@dataclass(frozen=True)
class CalibrationSettings:
    """What is asked of a calibration; ``alpha`` is of all signals together."""

    beta: float = setting(0.05, "false completions per episode, at most", above=0, below=1)
    alpha: float = setting(0.05, "false alarms per successful episode, at most", above=0, below=1)
    # By then the episode should have been judged complete.
    verdict_s: float = setting(
        0.5,
        "an alarm so long after the true success still counts as false",
        "s",
        low=0,
        high=math.inf,
        option="verdict",
    )
    fit_fraction: float = setting(
        0.25,
        "of the successes, for fitting the novelty alone; of all, for choosing the completion",
        above=0,
        below=1,
    )
    seed: int = setting(0, "chooses those", low=0)
    completion: str = setting(
        "auto",
        "score of completion: the plain level, its engaged-first rise, or what finds more on "
        "roll-outs set aside",
        choices=("auto", *COMPLETIONS),
    )
    verdict_error: float = setting(
        0.0,
        "share of episodes, at most, of which people call a failure a success; beta covers these",
        low=0,
        below=1,
    )
    attended: bool = setting(
        False, "the bound is for work in which people stop failures and take over as recorded"
    )
    groups: str = setting("", "a bound for each task, operator or value of this column")

    def __post_init__(self) -> None:
        check(self, CalibrationError)
        if not self.verdict_error < self.beta:
            raise CalibrationError(
                f"verdict_error: expected less than beta ({self.beta:g}), got "
                f"{self.verdict_error:g}: wrong verdicts alone may hide as many false completions; "
                "ask for a larger beta, or judge anew with more care"
            )


@dataclass(frozen=True)
class Basis:
    """What thresholds were calibrated on, or what runs now.

    Attributes:
        reward_hash: of all that the predicted reward depends on.
        policy_version: of the weights that drove; "" where it is not known.
        contract_hash: of the robot contract.
        cameras: camera keys.
        rate_hz: of inference.
        timeout_s: of an episode.
    """

    reward_hash: str
    policy_version: str
    contract_hash: str
    cameras: tuple[str, ...]
    rate_hz: float
    timeout_s: float


@dataclass(frozen=True)
class Groups:
    """Bounds on completion of groups of episodes, each of its own.

    Attributes:
        key: what makes a group: ``task``, ``operator``, or a column of the dataset.
        counts: episodes of each group.
        bounds: of those that have enough; the others get the pooled threshold.
    """

    key: str
    counts: dict[str, int]
    bounds: dict[str, Bound]

    def fault(self, group: str) -> str:
        """Why nothing is claimed for a group, or an empty string."""
        if group in self.bounds:
            return ""
        return f"{self.counts.get(group, 0)} episodes of {self.key} '{group}' are too few"


@dataclass(frozen=True)
class Calibration:
    """Thresholds, the rates that they keep, and where they hold.

    Attributes:
        completion: on ``Signals.completion``, over all episodes before their true success.
        alarms: by name, each with its part of alpha; without features those that need none.
        distance: of the novelty; None without features.
        signals: how the signals are made.
        basis: what they were calibrated on.
        settings: what was asked for.
        episodes, successes: how many there were.
        recognised: of the successes, how many the completion threshold finds in time; None: not
            counted.
        judge: whether the reward tells success from failure at all; None: not known.
        groups: bounds of groups; None: there are none.
        world: what is compared with what runs; None: nothing is.
    """

    completion: Bound
    alarms: dict[str, Bound]
    distance: FeatureDistance | None
    signals: SignalSettings
    basis: Basis
    settings: CalibrationSettings
    episodes: int
    successes: int
    recognised: int | None = None
    judge: JudgeCheck | None = None
    groups: Groups | None = None
    world: World | None = None

    def bound_of(self, group: str | None) -> Bound:
        """On completion, of a group's episodes; None: of all."""
        own = self.groups.bounds if self.groups is not None and group is not None else {}
        return own.get(group or "", self.completion)

    def group_of(self, task: str | None) -> str | None:
        """Group of an episode that runs, of which only the task is known; None: no matter."""
        return task if self.groups is not None and self.groups.key == "task" else None

    def claim(self, running: Basis, task: str | None = None) -> str:
        """Compare with what runs now; return the line for the status.

        Args:
            running: what runs.
            task: of the episode that runs; None: none does.

        Raises:
            CalibrationError: another reward model, contract, cameras or rate, or a longer
                time-out: the thresholds mean nothing there.
        """
        checks = (
            ("reward_hash", self.basis.reward_hash == running.reward_hash, "calibrate this reward"),
            ("contract_hash", self.basis.contract_hash == running.contract_hash, "calibrate anew"),
            (
                "cameras",
                set(self.basis.cameras) == set(running.cameras),
                "use the calibrated cameras or calibrate anew",
            ),
            (
                "rate_hz",
                math.isclose(self.basis.rate_hz, running.rate_hz, rel_tol=1e-3),
                "infer at the calibrated rate or calibrate anew",
            ),
            (
                "timeout_s",
                running.timeout_s <= self.basis.timeout_s + 1e-9,
                "shorten the time-out, or calibrate on longer roll-outs",
            ),
        )
        for name, fits, mend in checks:
            if not fits:
                raise CalibrationError(
                    f"calibration: {name}: expected {_shown(getattr(self.basis, name))}, got "
                    f"{_shown(getattr(running, name))}; {mend} (rewact calibrate)"
                )
        if not self.basis.policy_version or self.basis.policy_version != running.policy_version:
            driver = self.basis.policy_version or "an unknown policy"
            now = running.policy_version or "no policy's chunks"
            return f"bound: not claimed (calibrated on {driver}, running {now}){self._detection}"
        group = self.group_of(task)
        fault = "" if self.groups is None or group is None else self.groups.fault(group)
        if fault:
            return f"bound: not claimed ({printable(fault)}){self._detection}"
        completion = self.bound_of(group)
        about = [f"n {completion.n}"]
        about += [] if group is None else [f"of task '{printable(group)}'"]
        about += ["engaged-first"] if self.signals.completion == ENGAGED else []
        about += ["attended"] if self.settings.attended else []
        return (
            f"bound: false completions <= {self.settings.beta:g} ({', '.join(about)}), false "
            f"alarms <= {self.settings.alpha:g} (n {min(b.n for b in self.alarms.values())})"
            f"{self._detection}"
        )

    @cached_property
    def key(self) -> str:
        """Names these thresholds among other calibrations."""
        chosen = [self.completion.threshold, *(b.threshold for b in self.alarms.values())]
        world = None if self.world is None else self.world.document()
        text = json.dumps([chosen, asdict(self.basis), world], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def fault(self) -> str:
        """Why the calibrated reward is no judge; empty where it is one or nobody knows."""
        return "" if self.judge is None else self.judge.fault

    @property
    def _detection(self) -> str:
        """What the bound says nothing of: how many successes are found, and if it can judge."""
        found = ""
        if self.recognised is not None and self.successes:
            found = f"; finds {self.recognised}/{self.successes} successes"
        return f"{found}; NO JUDGE: {self.fault}" if self.fault else found

    def save(self, file: Path) -> None:
        """Write as JSON, whole or not at all."""
        document: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        grouped = document["groups"]["bounds"].values() if self.groups else ()
        for bound in (document["completion"], *document["alarms"].values(), *grouped):
            bound["quantile"] = bound["rank"] / (bound["n"] + 1)  # for readers of the file
        if self.distance is not None:
            document["distance"] = {
                "size": len(self.distance.mean),
                "mean": _encode(self.distance.mean),
                "whitening": _encode(self.distance.whitening),
            }
        document["world"] = None if self.world is None else self.world.document()
        replace_file(file, json.dumps(document, indent=1) + "\n")


def load_calibration(file: Path) -> Calibration:
    """Read what ``Calibration.save`` wrote.

    Raises:
        CalibrationError: no such file, not one of ours, damaged, or of another format.
    """
    try:
        raw = strict_yaml.load_json(file)
        require_format(raw, FORMAT, _ANEW)
        basis = raw["basis"]
        found = Calibration(
            completion=_bound(raw["completion"]),
            alarms={
                a.name: _bound(raw["alarms"][a.name])
                for a in calibrated()
                if a.name in raw["alarms"]
            },
            distance=_distance(raw["distance"]),
            signals=SignalSettings(**raw["signals"]),
            basis=Basis(**{**basis, "cameras": tuple(basis["cameras"])}),
            settings=CalibrationSettings(**raw["settings"]),
            episodes=int(raw["episodes"]),
            successes=int(raw["successes"]),
            recognised=None if raw.get("recognised") is None else int(raw["recognised"]),
            judge=_judge(raw.get("judge")),
            groups=_groups(raw.get("groups")),
            world=read_world(raw.get("world")),
        )
    except FormatError as error:
        raise CalibrationError(f"{file}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no key {error}" if isinstance(error, KeyError) else reason(error, file)
        raise CalibrationError(f"{file}: {what}; {_ANEW}") from error
    expected = {alarm.name for alarm in calibrated(found.distance is not None)}
    if set(found.alarms) != expected:
        raise CalibrationError(
            f"{file}: alarms: expected {sorted(expected)}, got {sorted(found.alarms)}; {_ANEW}"
        )
    return found


def _bound(raw: dict[str, Any]) -> Bound:
    bound = Bound(float(raw["rate"]), int(raw["n"]), int(raw["rank"]), float(raw["threshold"]))
    if not (0 < bound.rate < 1 and 1 <= bound.rank <= bound.n and math.isfinite(bound.threshold)):
        raise CalibrationError(f"bound out of range: {bound}")
    return bound


def _groups(raw: dict[str, Any] | None) -> Groups | None:
    if raw is None:
        return None
    counts = {str(name): int(count) for name, count in raw["counts"].items()}
    return Groups(str(raw["key"]), counts, {n: _bound(b) for n, b in raw["bounds"].items()})


def _judge(raw: dict[str, Any] | None) -> JudgeCheck | None:
    if raw is None:
        return None
    counts = int(raw["successes"]), int(raw["failures"])
    figures = [float(raw[name]) for name in ("auc", "low", "high")]
    joints = [None if raw[name] is None else float(raw[name]) for name in ("joints", "gain_low")]
    return JudgeCheck(*counts, *figures, *joints)


def _distance(raw: dict[str, Any] | None) -> FeatureDistance | None:
    if raw is None:
        return None
    size = int(raw["size"])
    return FeatureDistance(_decode(raw["mean"], (size,)), _decode(raw["whitening"], (size, size)))


def _encode(array: NDArray[np.float32]) -> str:
    """Little-endian float32, row by row, in base 64."""
    return base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")


def _decode(text: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    data = base64.b64decode(text, validate=True)
    numbers = math.prod(shape)
    if len(data) != 4 * numbers:
        raise CalibrationError(f"distance: expected {numbers} numbers, got {len(data) / 4:g}")
    array = np.frombuffer(data, dtype="<f4")
    if not np.isfinite(array).all():
        raise CalibrationError("distance: expected finite numbers")
    return array.astype(np.float32).reshape(shape)


def _shown(value: object) -> object:
    return ", ".join(sorted(value)) if isinstance(value, tuple) else value
