"""Before a robot starts: does its calibration say that the policy's reward is no judge?"""

from collections.abc import Iterable

from rewact_ros.reward.judge_check import mends
from rewact_ros.stack.bringup import Process
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.judging import find_calibration


def judge_warnings(nodes: Iterable[Process]) -> list[str]:
    """Lines that warn of a reward that is no judge, with the commands that mend it.

    A calibration that cannot be read is left to the supervisor, which refuses it by name.
    """
    lines = []
    for node in nodes:
        policy = str(node.parameters.get("policy", ""))
        file = str(node.parameters.get("calibration", ""))
        if node.name != "supervisor" or not (policy or file):
            continue
        try:
            calibration = find_calibration(file, policy)
        except CalibrationError:
            continue
        if calibration is not None and calibration.judge is not None and calibration.fault:
            lines.append(f"warning: {policy}: {calibration.judge.line}")
            lines += [f"  mend: {command}" for command in mends(policy)]
    return lines
