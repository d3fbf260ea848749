"""What a checkpoint's files say of it, read without PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.checks.facts import Checkpoint
from rewact_ros.contract.schema import ACTION_KEY
from rewact_ros.policy.checkpoint_files import (
    CONFIG,
    CONTRACT,
    WEIGHTS,
    CheckpointError,
    CheckpointFiles,
    open_folder,
)

# LeRobot's processors keep what they normalise by in files of these names.
_REPRESENTATION = "action_representation"
_STATISTICS = "normalizer_processor.safetensors"


def checkpoint_facts(folder: Path, statistics: bool = True) -> Checkpoint:
    """Read a checkpoint folder; what cannot be read is its `fault`.

    Args:
        folder: of the checkpoint.
        statistics: read them too, which needs safetensors.
    """
    try:
        files = open_folder(folder)
        config = files.json(CONFIG)
        files.metadata(WEIGHTS)
        contract = files.json(CONTRACT) if CONTRACT in files else {}
        signature = contract.get("signature")
        return Checkpoint(
            str(folder),
            signature=signature if _is_signature(signature) else None,
            contract_hash=str(contract.get("hash", "")),
            shapes=_own_shapes(config, _shapes(config, folder)),
            statistics=_statistics(files) if statistics else {},
            version=files.version,
            weights_bytes=len(files.read(WEIGHTS)),
        )
    except CheckpointError as error:
        return Checkpoint(str(folder), fault=str(error))


def _is_signature(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("features"), dict)
        and all(isinstance(feature, dict) for feature in value["features"].values())
        and isinstance(value.get("rate_hz"), int | float)
    )


def _shapes(config: dict[str, Any], folder: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for side in ("input_features", "output_features"):
        features = config.get(side)
        for key, feature in features.items() if isinstance(features, dict) else ():
            shape = feature.get("shape") if isinstance(feature, dict) else None
            if not isinstance(shape, list) or not all(type(n) is int for n in shape):
                raise CheckpointError(
                    f"{folder / CONFIG}: {side}.{key}.shape: expected whole numbers, got "
                    f"{str(shape)[:60]}; copy the checkpoint again"
                )
            found[key] = tuple(shape)
    return found


def _own_shapes(
    config: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Without the action of a policy that speaks of it in another representation than the robot."""
    return {k: s for k, s in shapes.items() if k != ACTION_KEY or not config.get(_REPRESENTATION)}


def _statistics(files: CheckpointFiles) -> dict[str, dict[str, NDArray[np.generic]]]:
    """Feature → name → array, of all processors that keep any."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    found: dict[str, dict[str, NDArray[np.generic]]] = {}
    for name in files.names:
        if not name.endswith(_STATISTICS):
            continue
        try:
            tensors = load(files.read(name))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{files.path / name}: not readable: {error}; copy the checkpoint again"
            ) from error
        for key, values in tensors.items():
            feature, _, statistic = key.rpartition(".")
            found.setdefault(feature, {})[statistic] = values
    return found
