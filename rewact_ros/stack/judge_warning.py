"""Before a robot starts: what is known of the reward that will judge it?"""

from collections.abc import Iterable

from rewact_ros.policy.task_table import load_tasks
from rewact_ros.reward.judge_check import mends, rollouts_of
from rewact_ros.stack.bringup import Process
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.judging import find_calibration


def judge_warnings(nodes: Iterable[Process]) -> list[str]:
    """Lines that warn of a reward that is no judge, or that nobody tried on this policy.

    With the commands that mend it. A calibration that cannot be read is left to the supervisor,
    which refuses it by name.
    """
    by_name = {node.name: node.parameters for node in nodes}
    tasks = str(by_name.get("supervisor", {}).get("tasks", ""))
    if tasks:
        lines = []
        for row in load_tasks(tasks).rows:
            apart, file = row.judge is not None, str(row.calibration or "")
            lines += _warnings(str(row.judged_by), file, str(row.policy), apart)
        return list(dict.fromkeys(lines))
    judge = str(by_name.get("supervisor", {}).get("policy", ""))
    file = str(by_name.get("supervisor", {}).get("calibration", ""))
    actor = str(by_name.get("policy", {}).get("policy", "")) or "POLICY"
    return _warnings(judge, file, actor, "judge" in by_name)


def _warnings(judge: str, file: str, actor: str, apart: bool) -> list[str]:
    """As `judge_warnings`, of one judge, its file of thresholds and the policy that acts."""
    if not (judge or file):
        return []
    try:
        calibration = find_calibration(file, judge)
    except CalibrationError:
        return []
    if calibration is None and apart:
        return [
            f"warning: {judge}: judges another policy's work, uncalibrated: it may call success "
            "what it never saw fail",
            f"  mend: {rollouts_of(actor, 'ROLLOUTS')}",
            f"  mend: rewact calibrate --policy {judge} --dataset ROLLOUTS",
        ]
    if calibration is None or calibration.judge is None or not calibration.fault:
        return []
    warning = f"warning: {judge}: {calibration.judge.line}"
    return [warning, *(f"  mend: {command}" for command in mends(judge, actor))]
