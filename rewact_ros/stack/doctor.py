"""`rewact doctor`: gathers the facts, has them judged, and tells the results to ROS, too."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from rewact_ros.checks import machine as machine_checks
from rewact_ros.checks.facts import Engine, Facts
from rewact_ros.checks.finding import Result, Severity
from rewact_ros.checks.table import examine
from rewact_ros.contract.load import load_contract
from rewact_ros.contract.names import check_namespace
from rewact_ros.stack.doctor_settings import DoctorSettings
from rewact_ros.stack.domain import kept_environment
from rewact_ros.stack.machine_facts import machine_facts

# The results are there so long for who listens; the graph has been known for seconds by then.
HEARD_S = 0.3
LOADING_S = 60.0


def diagnose(asked: DoctorSettings) -> list[Result]:
    """Examine a robot and its machine; nothing moves, and no command is published.

    Raises:
        ContractError: the contract itself is wrong, with all that is.
    """
    space = check_namespace("--namespace", asked.namespace)
    contract = load_contract(asked.contract, space) if asked.contract else None
    facts = Facts(machine=machine_facts(_middleware(), [asked.recordings]), contract=contract)
    _read_files(asked, facts)
    if contract is None:
        return list(examine(facts))
    if _blocked(facts):
        facts.no_graph = "mend what is wrong with ros, rmw and domain first"
        return list(examine(facts))
    return _with_graph(asked, facts, space)


def _with_graph(asked: DoctorSettings, facts: Facts, space: str) -> list[Result]:
    from rewact_ros.ros.robot_ears import RobotEars
    from rewact_ros.stack.bringup import transport_environment
    from rewact_ros.stack.client import RobotClient
    from rewact_ros.stack.doctor_report import Told, write_pictures

    assert facts.contract is not None
    profile = transport_environment()  # as `rewact up` has it: raw pictures need it
    with kept_environment(*profile):
        os.environ.update(profile)
        with RobotClient(space, name="rewact_doctor") as client:
            told = Told(client.node)
            ears = RobotEars(client.node, facts.contract, asked.use_sim_time)
            ears.listen(client.spin, asked.seconds, facts)
            results = list(examine(facts))
            told.publish(results)
            client.spin(lambda: False, HEARD_S)
    if asked.pictures:
        write_pictures(asked.pictures, facts)
    return results


def _read_files(asked: DoctorSettings, facts: Facts) -> None:
    """What the files that were named tell; nothing of the robot is needed for it."""
    if asked.policy:
        from rewact_ros.policy.checkpoint_facts import checkpoint_facts

        facts.checkpoint = checkpoint_facts(asked.policy)
        package = asked.engine if asked.engine in ("onnxruntime", "openvino") else "torch"
        facts.engine = Engine(asked.engine, asked.device, find_spec(package) is not None)
    if asked.dataset:
        from rewact_ros.data.dataset.first_pictures import training_facts

        facts.dataset = training_facts(asked.dataset)
    if asked.calibration:
        from rewact_ros.supervision.calibration_facts import calibration_facts

        facts.calibration = calibration_facts(asked.calibration, facts.contract, facts.checkpoint)


def _middleware() -> str:
    """The middleware that ROS loads; empty: it loads none.

    One that is asked for and is not there ends the process that loads ROS: another one tries.
    """
    if os.environ.get("RMW_IMPLEMENTATION"):
        words = [sys.executable, "-c", _ASK]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LOADING_S, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""
    try:
        from rclpy.utilities import get_rmw_implementation_identifier
    except ImportError:  # what is wrong with ROS is what the checks are to tell
        return ""
    return str(get_rmw_implementation_identifier())


_ASK = "import rclpy.utilities as u; print(u.get_rmw_implementation_identifier())"


def _blocked(facts: Facts) -> bool:
    """Whether joining the graph cannot work."""
    judges = (machine_checks.environment, machine_checks.rmw, machine_checks.domain)
    found = [finding for judge in judges for finding in judge(facts)]
    return any(finding.severity is Severity.ERROR for finding in found)


def exit_code(results: Sequence[Result]) -> int:
    """0: nothing must be mended; 1: something must."""
    return int(any(result.severity is Severity.ERROR for result in results))
