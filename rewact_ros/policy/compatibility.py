"""Whether a checkpoint fits a robot, before anything runs."""

from rewact_ros.contract import Contract, check_signature
from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY

from .checkpoint import CheckpointError, LoadedPolicy


def check_contract(loaded: LoadedPolicy, contract: Contract) -> None:
    """Refuse a checkpoint that was made for another robot.

    A checkpoint that carries its contract is compared with names, order, units and rate; then
    every checkpoint is compared with the shapes of the network's own inputs and outputs.

    Raises:
        ContractError: the checkpoint's contract differs; names key, expected and got.
        CheckpointError: an input or output of the network has other dimensions.
    """
    what = f"checkpoint {loaded.path}"
    if loaded.contract is not None and loaded.contract["hash"] != contract.hash:
        check_signature(contract, loaded.contract["signature"], what)
    expected = {STATE_KEY: (len(contract.state_names),), ACTION_KEY: (len(contract.action_names),)}
    for camera in contract.cameras:
        height, width, channels = camera.shape
        expected[camera.key] = (channels, height, width)
    features = {**loaded.config.input_features, **loaded.config.output_features}
    for key, feature in features.items():
        if key not in expected:
            raise CheckpointError(
                f"{what}: needs '{key}', which the contract of {contract.robot} lacks"
            )
        if tuple(feature.shape) != expected[key]:
            raise CheckpointError(
                f"{what}: {key}: expected shape {expected[key]} as in the contract of "
                f"{contract.robot}, got {tuple(feature.shape)}; use a checkpoint of this robot"
            )
