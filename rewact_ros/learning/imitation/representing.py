"""The representation of a training: what its settings ask for, put on its datasets."""

from collections.abc import Sequence

from rewact_ros.contract import Contract
from rewact_ros.contract.schema import ACTION_KEY
from rewact_ros.kinematics import ArmModel
from rewact_ros.policy.representations import Representation, RepresentationError
from rewact_ros.policy.resolved import representation_of
from rewact_ros.sim.task import find_task

from .demonstrations import Demonstrations
from .represented import recorded_poses, represent
from .settings import TrainError, TrainSettings


def asked(settings: TrainSettings, contract: Contract | None) -> Representation | None:
    """What the settings ask for; None: the dataset's own action.

    Raises:
        TrainError: the robot cannot take it.
    """
    if not settings.represents or contract is None:
        return None
    absolute = tuple(word.strip() for word in settings.absolute_joints.split(",") if word.strip())
    try:
        return representation_of(
            contract,
            settings.representation or "joints",
            settings.gripper,
            absolute,
            width_m=settings.gripper_width_m,
            threshold=settings.gripper_threshold,
            hysteresis=settings.gripper_hysteresis,
            min_interval_s=settings.gripper_interval_s,
        )
    except RepresentationError as error:
        raise TrainError(f"representation: {error}") from error


def represent_all(
    representation: Representation | None,
    settings: TrainSettings,
    contract: Contract | None,
    parts: Sequence[Demonstrations],
) -> None:
    """Let datasets give their actions in a representation.

    Raises:
        TrainError: their actions are poses, and nothing was asked for; no contract; as
            `represent`.
        ArmModelError, SimulationUnavailableError: the model of the kinematics does not load.
    """
    if representation is None:
        for data in parts:
            names = _names(data)
            if recorded_poses(names) and not (contract is not None and contract.poses):
                raise TrainError(
                    f"{data.source.root}: action: expected joints, got tool poses "
                    f"({', '.join(names)}); train with --representation ee, ee_relative, ee_delta "
                    "or ee_twist and the robot's --contract"
                )
        return
    if contract is None:
        raise TrainError(
            f"representation {representation}: expected the robot's contract, which names its "
            "joints and kinematics; give --contract"
        )
    tool, arm = contract.kinematics, None
    if representation.is_pose and not contract.poses and tool is not None:
        arm = ArmModel(tool, find_task(settings.task).robot_model)
    for data in parts:
        data.represented = represent(
            representation, contract, arm, data.action, data.state, _names(data)
        )


def _names(data: Demonstrations) -> list[str]:
    names = data.source.meta.features[ACTION_KEY].get("names")
    if isinstance(names, dict):  # as LeRobot v2 wrote names
        names = next(iter(names.values()))
    return list(names or [])
