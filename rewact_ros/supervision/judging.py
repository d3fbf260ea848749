"""By which thresholds episodes are judged, and whether these mean anything for what runs."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from rewact_ros.policy.checkpoint_files import CALIBRATION
from rewact_ros.supervision.calibration import (
    Basis,
    Calibration,
    load_calibration,
)
from rewact_ros.supervision.escalation import EscalationSettings
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import SignalSettings

UNCALIBRATED = "uncalibrated"


def find_calibration(file: str, policy: str) -> Calibration | None:
    """The calibration that is named, else the one beside the policy's checkpoint, else none.

    Raises:
        CalibrationError: the file that is named is not there, or one is damaged.
    """
    beside = Path(policy) / CALIBRATION
    if file:
        return load_calibration(Path(file))
    return load_calibration(beside) if policy and beside.is_file() else None


@dataclass(frozen=True)
class RewardSource:
    """Who speaks on `rewact/reward`, and who moves the robot meanwhile.

    Attributes:
        reward_hash: of all that the reward depends on; "" where it is not told.
        policy_version: of the weights whose chunks move the robot; "" where none do.
        quantiles: whether the reward comes with them.
        version: of the weights that speak.
    """

    reward_hash: str
    policy_version: str
    quantiles: bool
    version: str = ""


@dataclass(frozen=True)
class Judging:
    """Makes the monitor of each episode.

    Attributes:
        contract_hash, cameras, rate_hz: of the robot, as in ``Basis``.
        thresholds, signals: where there is no calibration.
        level: q10, mean, or auto: q10 where the reward comes with quantiles.
        escalation: the ladders.
        calibration: goes before ``thresholds`` and ``signals``.
    """

    contract_hash: str
    cameras: tuple[str, ...]
    rate_hz: float
    thresholds: Thresholds = field(default_factory=Thresholds)
    signals: SignalSettings = field(default_factory=SignalSettings)
    level: str = "auto"
    escalation: EscalationSettings = field(default_factory=EscalationSettings)
    calibration: Calibration | None = None

    def bound(self, source: RewardSource | None, timeout_s: float, task: str | None = None) -> str:
        """What the thresholds promise in an episode of this time-out and task.

        Raises:
            CalibrationError: the calibration is for something else than what runs.
        """
        if self.calibration is None:
            return UNCALIBRATED
        basis = self.calibration.basis
        if source is None:
            # Who speaks is not known yet; everything else can be compared.
            running = replace(self._basis(timeout_s), reward_hash=basis.reward_hash)
            self.calibration.claim(running)
            return "bound: not claimed (no reward received yet)"
        return self.calibration.claim(
            replace(
                self._basis(timeout_s),
                reward_hash=source.reward_hash,
                policy_version=source.policy_version,
            ),
            task,
        )

    def monitor(self, source: RewardSource | None, task: str | None = None) -> EpisodeMonitor:
        """Monitor of one episode; check ``bound`` before."""
        if self.calibration is not None:
            thresholds = Thresholds.calibrated(self.calibration, self.thresholds, task)
            return EpisodeMonitor(
                thresholds, self.calibration.signals, self.escalation, self.calibration.distance
            )
        level = self.level
        if level == "auto":
            level = "q10" if source is not None and source.quantiles else "mean"
        return EpisodeMonitor(self.thresholds, replace(self.signals, level=level), self.escalation)

    def _basis(self, timeout_s: float) -> Basis:
        return Basis("", "", self.contract_hash, self.cameras, self.rate_hz, timeout_s)
