"""The public judge without ROS: observations in, progress, alarms and a verdict out.

    judge = EpisodeJudge.open("models/mine", timeout_s=20)
    judge.reset()
    while True:
        judgement = judge.step(observation)  # LeRobot's keys; NumPy arrays
        if judgement.verdict is not None:
            break

It is the supervisor's own monitor, on the same scores and the same ``calibration.json``.
"""

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rewact_ros.contract import Contract, ContractError, load_contract
from rewact_ros.contract.schema import IMAGE_PREFIX, STATE_KEY
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.engine import Observation, Prediction
from rewact_ros.reward.judges import Judge, JudgeSettings, Loaded, judge_of, load_judge
from rewact_ros.supervision.alarms import STALENESS
from rewact_ros.supervision.escalation import EscalationSettings, Ladder, Step
from rewact_ros.supervision.judging import Judging, RewardSource, find_calibration
from rewact_ros.supervision.monitor import EpisodeMonitor
from rewact_ros.supervision.signals import PolicySample
from rewact_ros.supervision.verdict import Outcome, Termination, Verdict

logger = logging.getLogger(__name__)
UNKNOWN_ROBOT = "bound: not claimed (no contract says that this is the calibrated robot)"


@dataclass(frozen=True)
class EpisodeJudgement:
    """What is known of the episode now.

    Attributes:
        progress: filtered, in [0, 1]; NaN before the first score.
        complete: the task is done, by the completion threshold held for long enough.
        alarms: names of the signals above their threshold.
        bound: what the thresholds promise, in one line.
        verdict: how the episode ends; None: it goes on.
    """

    progress: float
    complete: bool
    alarms: frozenset[str]
    bound: str
    verdict: Verdict | None

    @property
    def progress_text(self) -> str:
        """The progress for people."""
        return "unknown" if math.isnan(self.progress) else f"{self.progress:.2f}"


@dataclass(frozen=True)
class _Robot:
    """What is known of the robot; an empty hash: nothing says which one it is."""

    hash: str = ""
    cameras: tuple[str, ...] = ()
    rate_hz: float = 0.0
    joints: tuple[str, ...] = ()


class EpisodeJudge:
    """Judges one episode after the other; make it by ``open``.

    ``see`` and ``judge`` may be called from two threads, so that a slow judge delays no control.

    Attributes:
        version: of the judge's weights.
        reward_hash: of all that its score depends on.
        description: what runs.
        bound: what the thresholds promise.
        timeout_s: of an episode; infinite: it has none.
        state_names: joints of ``observation.state``, in order; empty: they are not known.
    """

    def __init__(
        self,
        judge: Judge,
        version: str,
        judging: Judging,
        source: RewardSource,
        timeout_s: float,
        state_names: tuple[str, ...] = (),
    ) -> None:
        self.state_names = state_names
        self._judge, self._judging, self._source = judge, judging, source
        self.version, self.reward_hash, self.timeout_s = version, judge.reward_hash, timeout_s
        self.description = judge.description
        self.bound = _bound(judging, source, timeout_s)
        self._seeing, self._monitoring = threading.Lock(), threading.Lock()
        self.reset()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        contract: Contract | str | Path | None = None,
        calibration: str | Path = "",
        *,
        instruction: str = "",
        driver: str = "",
        rate_hz: float = 0.0,
        timeout_s: float = 0.0,
        alarm_s: float = 1.0,
        settings: JudgeSettings | None = None,
    ) -> "EpisodeJudge":
        """Open whatever may judge: a policy with a reward head, a classifier, a reward model.

        Args:
            folder: its checkpoint.
            contract: of the robot, or its file; None: the robot is the one that the checkpoint was
                trained on, and each observation is checked against the network's inputs.
            calibration: file of thresholds; empty: calibration.json in the folder, else the usual
                ones, uncalibrated.
            instruction: the task in words, for a judge that is told so.
            driver: version of the weights that move the robot; a bound is claimed for those alone.
            rate_hz: of the observations; 0: the contract's.
            timeout_s: of an episode; 0: the calibration's, else none.
            alarm_s: how long an alarm stands before the episode ends; infinite: it does not.
            settings: how the judge runs.

        Raises:
            CheckpointError, ClassifierError, ContractError, EngineError: see ``open_judge``.
            CalibrationError: the calibration is damaged, or for something else than what runs.
            ValueError: the rate of the observations is not known, or a text is missing.
        """
        settings = settings or JudgeSettings()
        loaded = load_judge(folder, settings.device)
        if isinstance(contract, str | Path):
            contract = load_contract(contract)
        found = find_calibration(str(calibration), str(folder))
        robot = _robot_of(loaded, contract)
        if robot is None:  # then the calibration says what it was
            robot = _Robot("", found.basis.cameras, found.basis.rate_hz) if found else _Robot()
        robot = replace(robot, rate_hz=rate_hz or robot.rate_hz)
        if not robot.rate_hz > 0:
            raise ValueError(
                f"{folder}: rate_hz: expected the rate of the observations, and neither a contract "
                "nor a calibration says it; give rate_hz"
            )
        judge = judge_of(loaded, contract, robot.rate_hz, settings, logger.warning)
        if judge.needs_text and not instruction:
            raise ValueError(
                f"{folder}: instruction: expected the task in words, which this judge is told, "
                "got none"
            )
        judge.instruction = instruction
        judge.warm_up()
        ladder = Ladder(hold_s=alarm_s, abort_s=alarm_s)  # there is nobody to call
        judging = Judging(
            robot.hash,
            robot.cameras,
            robot.rate_hz,
            escalation=EscalationSettings(default=ladder),
            calibration=found,
        )
        if found is not None and not timeout_s:
            timeout_s = found.basis.timeout_s
        source = RewardSource(judge.reward_hash, driver, _has_quantiles(loaded))
        return cls(judge, loaded.version, judging, source, timeout_s or math.inf, robot.joints)

    def reset(self) -> None:
        """An episode begins with the next observation."""
        with self._seeing, self._monitoring:
            self._judge.reset()
            self._monitor: EpisodeMonitor = self._judging.monitor(self._source)
            self._begun_s = math.nan

    def step(self, observation: Observation, stamp_s: float | None = None) -> EpisodeJudgement:
        """Take an observation, and judge the episode up to it: ``see``, then ``judge``.

        Args:
            observation: as ``see``.
            stamp_s: its time on a clock that never goes back; None: now.
        """
        stamp_s = time.monotonic() if stamp_s is None else stamp_s
        self.see(observation, stamp_s)
        return self.judge(stamp_s)

    def see(self, observation: Observation, stamp_s: float) -> Prediction:
        """Score an observation, which takes as long as an inference.

        Args:
            observation: ``observation.state`` (S,) float32 in the units of the training data, and
                each ``observation.images.NAME`` (H, W, 3) uint8 RGB.
            stamp_s: its time.

        Raises:
            KeyError, ValueError, FloatingPointError: see ``Engine.infer``.
        """
        with self._seeing:
            found = self._judge.infer(observation, stamp_s)
            with self._monitoring:
                self._monitor.add(_sample(found, stamp_s))
        return found

    def judge(self, now_s: float) -> EpisodeJudgement:
        """Judge the episode at a moment, on the clock of the observations' times."""
        with self._monitoring:
            if math.isnan(self._begun_s):
                self._begun_s = now_s
            now = self._monitor.step(now_s)
            progress = now.signals.progress
            return EpisodeJudgement(
                progress,
                now.complete,
                now.alarms,
                self.bound,
                self._verdict(now_s),
            )

    def time_out(self, now_s: float) -> Verdict:
        """The verdict of an episode that whoever drives has ended at its time-out."""
        with self._monitoring:
            return self._late(self._blind(now_s))

    def require_names(self, names: Sequence[str]) -> None:
        """Refuse a robot whose joints are not those of the judge's contract, in their order.

        Args:
            names: of the numbers of ``observation.state``, as LeRobot has them (`elbow.pos`) or
                the contract.

        Raises:
            ContractError: names the first that differs.
        """
        if not self.state_names:
            return
        short = [name.removesuffix(".pos") for name in names]
        pairs = zip_longest(self.state_names, short, fillvalue="nothing")
        for index, (expected, got) in enumerate(pairs):
            if expected != got:
                raise ContractError(
                    f"observation.state[{index}]: expected {expected} as in the judge's contract, "
                    f"got {got}; this judge was trained on another robot"
                )

    def _blind(self, now_s: float) -> bool:
        """Whether the newest score is too old to say anything."""
        age_s = self._monitor.tracker.signals.staleness_s(now_s)
        return age_s > self._monitor.thresholds.limits[STALENESS.key]

    def _verdict(self, now_s: float) -> Verdict | None:
        """As the supervisor ends an episode (``ENDINGS``), where nobody can be called."""
        monitor, decision = self._monitor, self._monitor.escalation.decision
        signals, blind = monitor.tracker.signals, self._blind(now_s)
        failure = Outcome.UNLABELLED if blind else Outcome.FAILURE
        if monitor.complete and decision.step is Step.NONE:
            level = f"{monitor.tracker.settings.level} {signals.level:.2f}"
            detail = f"reward {signals.progress:.2f}, {level}"
            return Verdict(Outcome.SUCCESS, Termination.PROGRESS, detail, "judge")
        if decision.step is Step.ABORT:
            return Verdict(failure, Termination.ALARM, decision.reason, "judge")
        if now_s - self._begun_s > self.timeout_s:
            return self._late(blind)
        return None

    def _late(self, blind: bool) -> Verdict:
        peak = self._monitor.tracker.signals.peak
        seen = "no fresh reward" if blind else f"peak progress {peak:.2f}"
        outcome = Outcome.UNLABELLED if blind else Outcome.FAILURE
        return Verdict(outcome, Termination.TIMEOUT, f"{self.timeout_s:g} s, {seen}", "judge")


def _robot_of(loaded: Loaded, contract: Contract | None) -> _Robot | None:
    """Which robot it is: by its contract, else by the one that the checkpoint carries."""
    if contract is not None:
        cameras = tuple(camera.key for camera in contract.cameras)
        return _Robot(contract.hash, cameras, contract.rate_hz, contract.state_names)
    recorded: dict[str, Any] | None = loaded.contract if isinstance(loaded, LoadedPolicy) else None
    if recorded is None:
        return None
    signature = recorded["signature"]
    try:
        features = signature["features"]
        cameras = tuple(key for key in features if key.startswith(IMAGE_PREFIX))
        joints = tuple(features.get(STATE_KEY, {}).get("names") or ())
        return _Robot(recorded["hash"], cameras, float(signature["rate_hz"]), joints)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContractError(
            f"{loaded.path}: contract.json: signature: expected rate_hz and features "
            f"({error}); copy the checkpoint again"
        ) from error


def _bound(judging: Judging, source: RewardSource, timeout_s: float) -> str:
    """As ``Judging.bound``; of a robot that nothing names all else is compared, nothing claimed."""
    if judging.calibration is None or judging.contract_hash:
        return judging.bound(source, timeout_s)
    supposed = replace(judging, contract_hash=judging.calibration.basis.contract_hash)
    supposed.bound(source, timeout_s)
    return UNKNOWN_ROBOT


def _has_quantiles(loaded: Loaded) -> bool:
    return isinstance(loaded, LoadedPolicy) and loaded.config.reward_head == "distributional"


def _sample(found: Prediction, stamp_s: float) -> PolicySample:
    return PolicySample(
        stamp_s=stamp_s,
        mean=found.reward,
        q10=found.quantiles[0] if found.quantiles else None,
        entropy=found.entropy,
        features=found.features,
    )
