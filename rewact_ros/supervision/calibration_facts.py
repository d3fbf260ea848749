"""Whether a calibration's thresholds hold for a robot and a policy, as far as files tell."""

from dataclasses import replace
from pathlib import Path

from rewact_ros.checks.facts import CalibrationFacts, Checkpoint
from rewact_ros.contract.schema import Contract
from rewact_ros.supervision.calibration import CalibrationError, load_calibration


def calibration_facts(
    file: Path, contract: Contract | None, checkpoint: Checkpoint | None
) -> CalibrationFacts:
    """Read a calibration and compare what is known of its basis.

    The reward's hash needs its weights in PyTorch: the supervisor compares it when it starts.
    """
    try:
        found = load_calibration(file)
        running = found.basis
        if contract is not None:
            running = replace(
                running,
                contract_hash=contract.hash,
                cameras=tuple(camera.key for camera in contract.cameras),
                rate_hz=contract.rate_hz,
            )
        if checkpoint is not None and not checkpoint.fault:
            running = replace(running, policy_version=checkpoint.version)
        return CalibrationFacts(str(file), claim=found.claim(running))
    except CalibrationError as error:
        text = str(error)
        return CalibrationFacts(str(file), text if str(file) in text else f"{file}: {text}")
