"""Comparing a contract with what a data set or a checkpoint was made for."""

from collections.abc import Callable, Mapping
from typing import Any

from rewact_ros.contract.schema import (
    ACTION_KEY,
    IMAGE_PREFIX,
    RECORD_FORMAT,
    STATE_KEY,
    Contract,
    ContractError,
)
from rewact_ros.formats import require_format

_ORDER = ("height", "width", "channels")
_AXES = {
    **{axis: axis for axis in _ORDER},
    "channel": "channels",
    **{axis[0]: axis for axis in _ORDER},
}


def require_record_format(record: dict[str, Any]) -> None:
    """Check the format of what `Contract.record` made; raises FormatError.

    One without a format is of 1, too: those of before the key are.
    """
    require_format(record, RECORD_FORMAT, "copy it anew from what wrote it", absent=1)


def signature_of_dataset(info: dict[str, Any]) -> dict[str, Any]:
    """Read the signature of a LeRobotDataset without a contract hash from its `meta/info.json`.

    Units are not in that file, so they are absent here and are not compared.

    Raises:
        ContractError: a feature that every robot data set has is absent, or a camera's axes have
            no names.
    """
    features: dict[str, Any] = {}
    for key, feature in info["features"].items():
        if key in (STATE_KEY, ACTION_KEY):
            names = feature.get("names")
            if isinstance(names, dict):  # LeRobot v2 wrote {"motors": [...]}
                names = next(iter(names.values()))
            features[key] = {"shape": list(feature["shape"]), "names": list(names or [])}
        elif key.startswith(IMAGE_PREFIX):
            features[key] = {"shape": list(image_shape(key, feature))}
    for key in (STATE_KEY, ACTION_KEY):
        if key not in features:
            raise ContractError(
                f"data set: no feature '{key}' in meta/info.json; got {list(features)}"
            )
    return {"rate_hz": float(info["fps"]), "features": features}


def image_shape(key: str, feature: dict[str, Any]) -> tuple[int, int, int]:
    """Give (height, width, channels) of a dataset's camera, whose axes have names.

    LeRobot has both orders; a size does not tell which one it is.

    Raises:
        ContractError: not three axes, or without the names that tell them apart.
    """
    names, shape = feature.get("names"), list(feature.get("shape") or ())
    if isinstance(names, dict) and len(names) == 1:  # as LeRobot v2 wrote names
        names = next(iter(names.values()))
    axes = names if isinstance(names, list | tuple) else ()
    axes = [_AXES.get(name) if isinstance(name, str) else None for name in axes]
    if sorted(map(str, axes)) != sorted(_ORDER) or len(shape) != len(_ORDER):
        raise ContractError(
            f"{key}: names: expected height, width and channels in the order of its shape {shape}, "
            f"got {names!r}; write into meta/info.json which axis is which"
        )
    height, width, channels = (int(shape[axes.index(axis)]) for axis in _ORDER)
    return height, width, channels


def check_signature(
    contract: Contract, other: dict[str, Any], what: str, ignore: frozenset[str] = frozenset()
) -> None:
    """Refuse `other` (a signature from a data set or checkpoint) unless it fits the contract.

    Keys that `other` does not carry, such as units of a foreign data set, are not compared; a
    feature that one side lacks is a mismatch. Features named in `ignore` may differ.

    Raises:
        ContractError: names the first key that differs, expected and got.
    """
    own = contract.signature()
    if abs(own["rate_hz"] - other["rate_hz"]) > 1e-6:
        raise _mismatch(what, "rate_hz", own["rate_hz"], other["rate_hz"])
    own_keys, other_keys = own["features"].keys() - ignore, other["features"].keys() - ignore
    if own_keys != other_keys:
        raise _mismatch(what, "features", sorted(own_keys), sorted(other_keys))
    for key in sorted(own_keys):
        expected = own["features"][key]
        for field, got in other["features"][key].items():
            if field in expected and got != expected[field]:
                raise _mismatch(what, f"{key}.{field}", expected[field], got)
        # What has units is of a contract, which would say that a camera is one of depth.
        told = other["features"][key].get("depth_m")
        if told != expected.get("depth_m") and "units" in other["features"].get(ACTION_KEY, {}):
            raise _mismatch(what, f"{key}.depth_m", expected.get("depth_m"), told)


def check_shapes(
    contract: Contract,
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
    fault: Callable[[str], Exception] = ContractError,
) -> None:
    """Refuse a network whose inputs or outputs the contract lacks, or has in other dimensions.

    Args:
        shapes: of its features; pictures are (3, height, width).
        what: it is, for the message.
        fault: makes the error.

    Raises:
        fault: names the first feature, expected and got.
    """
    expected: dict[str, tuple[int, ...]] = {
        STATE_KEY: (len(contract.state_names),),
        ACTION_KEY: (len(contract.action_names),),
    }
    for camera in contract.cameras:
        height, width, channels = camera.shape
        expected[camera.key] = (channels, height, width)
    for key, shape in shapes.items():
        if key not in expected:
            raise fault(f"{what}: needs '{key}', which the contract of {contract.robot} lacks")
        if tuple(shape) != expected[key]:
            raise fault(
                f"{what}: {key}: expected shape {expected[key]} as in the contract of "
                f"{contract.robot}, got {tuple(shape)}; use a checkpoint of this robot"
            )


def _mismatch(what: str, key: str, expected: object, got: object) -> ContractError:
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        # Of 26 joint names one differs: show that one, not two walls of text.
        index = next(i for i, (a, b) in enumerate(zip(expected, got, strict=True)) if a != b)
        key, expected, got = f"{key}[{index}]", expected[index], got[index]
    return ContractError(
        f"{what} does not fit the contract: {key}: expected {expected}, got {got}. "
        "Use the contract that it was made with, or another checkpoint."
    )
