"""From the supervisor's parameters and the contract to what the pure classes take."""

import time
import uuid

from rewact_ros.contract import Contract
from rewact_ros.policy.checkpoint_files import weights_version
from rewact_ros.policy.task_table import ByTask, TaskRow, table_of
from rewact_ros.ros.params import SupervisorParams
from rewact_ros.supervision.alarms import ALARMS
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.episodes import EpisodeSettings
from rewact_ros.supervision.escalation import EscalationSettings, Ladder
from rewact_ros.supervision.judging import Judging, find_calibration
from rewact_ros.supervision.monitor import Thresholds
from rewact_ros.supervision.reset import ResetCheck
from rewact_ros.supervision.signals import SignalSettings
from rewact_ros.supervision.supervisor import EpisodeParts
from rewact_ros.supervision.task_rule import TaskRule


def parts_of(p: SupervisorParams, contract: Contract) -> EpisodeParts:
    """What every episode is made of.

    Raises:
        ValueError: a parameter out of its range; names it.
    """
    _gate(p)  # refuses its parameters now rather than at the first goal
    return EpisodeParts(
        settings=_settings(p, contract),
        check=lambda: _reset_check(p, contract),
        gate=lambda: _gate(p),
        new_id=lambda: f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}",
    )


def rules_of(p: SupervisorParams, contract: Contract) -> ByTask[TaskRule]:
    """Thresholds, ladders and, where there is one, the calibration of each task.

    Raises:
        CalibrationError, TaskTableError: a calibration or the table cannot be read.
        ValueError: a parameter out of its range; names it.
    """
    table = table_of(p, ("policy", "calibration"))
    if table is None:
        return ByTask.one(TaskRule(_judging(p, contract, p.calibration, p.policy)))

    def rule(row: TaskRow) -> TaskRule:
        file = str(row.calibration or "")
        return TaskRule(
            _judging(p, contract, file, str(row.judged_by)),
            row.timeout_s,
            weights_version(row.policy),
            str(row.policy),
            weights_version(row.judged_by),
        )

    return table.by_task(rule)


def _judging(p: SupervisorParams, contract: Contract, calibration: str, policy: str) -> Judging:
    return Judging(
        contract_hash=contract.hash,
        cameras=tuple(camera.key for camera in contract.cameras),
        rate_hz=contract.rate_hz,
        thresholds=Thresholds(
            completion=p.threshold,
            hysteresis=p.hysteresis,
            **{alarm.key: getattr(p, alarm.key) for alarm in ALARMS.values() if alarm.limit},
        ),
        signals=SignalSettings(filter_s=p.filter_s, dwell=p.dwell, window=p.window),
        level=p.level,
        escalation=_escalation(p),
        calibration=find_calibration(calibration, policy),
    )


def _escalation(p: SupervisorParams) -> EscalationSettings:
    ladders = {}
    for name in ALARMS:
        key = f"ladder_{name}"
        try:
            ladders[name] = Ladder.parse(getattr(p, key), p.helps_per_signal)
        except ValueError as error:
            raise ValueError(f"supervisor: parameter {key}: {error}") from error
    return EscalationSettings(ladders=ladders, holds=p.helps, human_silence_s=p.human_silence_s)


def _settings(p: SupervisorParams, contract: Contract) -> EpisodeSettings:
    """Time limits; a contract without a reset pose has no reset motion."""
    return EpisodeSettings(
        timeout_s=p.timeout_s,
        reset_motion=p.reset_motion and contract.reset is not None,
        external_reset=bool(p.reset_service),
        reset_timeout_s=p.reset_timeout_s,
        hold_timeout_s=p.hold_timeout_s,
        human_timeout_s=p.human_silence_s,
    )


def _reset_check(p: SupervisorParams, contract: Contract) -> ResetCheck:
    """Check of one reset: joints where there was a motion, reward where it is asked for."""
    moved = p.reset_motion and contract.reset is not None
    return ResetCheck(
        joints=contract.action_names,
        pose=contract.reset.pose if moved and contract.reset else None,
        tolerance=p.reset_tolerance,
        reward_below=p.reset_reward_below,
    )


def _gate(p: SupervisorParams) -> ClassifierGate | None:
    """The classifier's part in completion, if it has one."""
    if not p.success_model_required:
        return None
    return ClassifierGate(p.success_threshold, p.success_hold, p.success_max_age_s)
