"""Whether a checkpoint fits a robot, before anything runs."""

from rewact_ros.contract import Contract, check_signature
from rewact_ros.contract.schema import ACTION_KEY
from rewact_ros.contract.signature import check_shapes

from .checkpoint import LoadedPolicy
from .checkpoint_files import CheckpointError
from .modeling_rewact import RewACTPolicy


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
    if reward_only and config.reward_head == "none":
        raise CheckpointError(f"{what}: has no reward head; reward_only needs one")
    if config.reward_head != "none" and not 0 <= config.value_min < config.value_max <= 1:
        raise CheckpointError(
            f"{what}: value_min, value_max: expected a reward within 0 to 1, got "
            f"{config.value_min} to {config.value_max}; train on labels of that range"
        )
    features = {**config.input_features, **({} if reward_only else config.output_features)}
    shapes = {key: tuple(feature.shape) for key, feature in features.items()}
    check_shapes(contract, shapes, what, CheckpointError)


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
