"""Whether a checkpoint fits a robot, before anything runs."""

from collections.abc import Callable
from dataclasses import replace

from rewact_ros.contract import Contract, check_signature
from rewact_ros.contract.schema import ACTION_KEY
from rewact_ros.contract.signature import check_shapes
from rewact_ros.kinematics import ArmModel

from .checkpoint import LoadedPolicy
from .checkpoint_files import CheckpointError
from .modeling_rewact import RewACTPolicy
from .representations import Representation, RepresentationError
from .resolved import Resolver, require_representation


def check_contract(loaded: LoadedPolicy, contract: Contract, reward_only: bool = False) -> None:
    """Refuse a checkpoint that was made for another robot.

    A checkpoint that carries its contract is compared with names, order, units and rate; then
    every checkpoint is compared with the shapes of the network's own inputs and outputs. With
    `reward_only` the actions are not used and may be another robot's, but a reward is a must.

    Raises:
        ContractError: the checkpoint's contract differs; names key, expected and got.
        CheckpointError: an input or output of the network has other dimensions, or its reward
            another range than [0, 1].
    """
    what = f"checkpoint {loaded.path}"
    if loaded.contract is not None and loaded.contract["hash"] != contract.hash:
        unused = frozenset({ACTION_KEY} if reward_only else ())
        check_signature(contract, loaded.contract["signature"], what, unused)
    config = loaded.config
    if reward_only:
        require_reward(loaded)
    if config.reward_head != "none" and not 0 <= config.value_min < config.value_max <= 1:
        raise CheckpointError(
            f"{what}: value_min, value_max: expected a reward within 0 to 1, got "
            f"{config.value_min} to {config.value_max}; train on labels of that range"
        )
    features = {**config.input_features, **({} if reward_only else config.output_features)}
    shapes = {key: tuple(feature.shape) for key, feature in features.items()}
    representation = loaded.representation
    if representation is not None and not reward_only:
        _check_representation(representation, contract, what)
        expected, got = (len(representation.names),), shapes.pop(ACTION_KEY, ())
        if got != expected:
            raise CheckpointError(
                f"{what}: {ACTION_KEY}: expected shape {expected} as in its "
                f"action_representation, got {got}; its config.json was changed"
            )
    check_shapes(contract, shapes, what, CheckpointError)


def require_reward(loaded: LoadedPolicy) -> None:
    """Refuse a checkpoint as a judge that predicts no reward."""
    if loaded.config.reward_head == "none":
        raise CheckpointError(f"checkpoint {loaded.path}: has no reward head; a judge needs one")


def _check_representation(representation: Representation, contract: Contract, what: str) -> None:
    try:
        require_representation(representation, contract)
    except RepresentationError as error:
        raise CheckpointError(f"{what}: {error}") from error


def fitted(loaded: LoadedPolicy, contract: Contract, simulated: Callable[[], str]) -> LoadedPolicy:
    """A checkpoint that may move a robot: its chunks will be the robot's absolute joints.

    Args:
        loaded: the checkpoint.
        contract: of the robot.
        simulated: text of the model that kinematics without a file mean.

    Raises:
        ContractError, CheckpointError: as ``check_contract``; its representation is none that this
            robot can take.
        ArmModelError, SimulationUnavailableError: the model of the kinematics does not load.
    """
    check_contract(loaded, contract)
    representation = loaded.representation
    if representation is None:
        return loaded
    tool = contract.kinematics
    needs = representation.is_pose and not contract.poses
    arm = ArmModel(tool, simulated) if needs and tool is not None else None
    return replace(loaded, resolver=Resolver(representation, contract, arm))


def check_pace(loaded: LoadedPolicy, contract: Contract, inference_s: float) -> None:
    """Refuse a policy whose chunks would be too old before the next one comes.

    A chunk is as old as its inference when it comes, and drives the arm until the next: that is
    another inference, or the period of `replan_hz`.

    Args:
        loaded: the policy.
        contract: of the robot.
        inference_s: of one inference here, the quickest that was seen.

    Raises:
        CheckpointError: names the key, and what it would have to be.
    """
    oldest_s = inference_s + max(inference_s, 1.0 / contract.replan_hz)
    steps = loaded.config.chunk_size
    chunk_s = contract.max_chunk_age_s if steps == 1 else (steps - 1) / contract.rate_hz
    what = f"checkpoint {loaded.path}: takes {inference_s:.2f} s for a chunk here"
    if oldest_s > contract.max_chunk_age_s:
        raise CheckpointError(
            f"{what}: max_chunk_age_s: expected at least {oldest_s:.2f} s, got "
            f"{contract.max_chunk_age_s:g}, so that the arm would hold before each next chunk; "
            "raise it in the contract, or run a faster engine or device"
        )
    if oldest_s > chunk_s:
        raise CheckpointError(
            f"{what}: chunk_size: its {steps} steps last {chunk_s:.2f} s, and "
            f"{oldest_s:.2f} s pass until the next chunk; run a faster engine or device, or train "
            "with longer chunks"
        )


def require_rewact(loaded: LoadedPolicy, who: str) -> RewACTPolicy:
    """The policy of a checkpoint, for those who need more of it than `Policy` has.

    Args:
        loaded: the checkpoint.
        who: needs it, for the message.

    Raises:
        CheckpointError: it is of another type.
    """
    if not isinstance(loaded.policy, RewACTPolicy):
        raise CheckpointError(
            f"checkpoint {loaded.path}: type: {who} needs {RewACTPolicy.name}, got "
            f"{type(loaded.policy).__name__}; give a checkpoint that `rewact train` wrote"
        )
    return loaded.policy
