"""What a data set, a bag and a checkpoint tell of a robot."""

from pathlib import Path
from typing import Any

from rewact_ros.contract.found import (
    MOST_STREAMS,
    CameraStream,
    CommandStream,
    Features,
    Found,
    JointStream,
    ValueStream,
    usable_joints,
    usable_topic,
)
from rewact_ros.contract.frames import NANO
from rewact_ros.contract.schema import ACTION_KEY, IMAGE_PREFIX, STATE_KEY, ContractError
from rewact_ros.contract.signature import signature_of_dataset
from rewact_ros.contract.state_values import NAMED_VALUES, SCALARS
from rewact_ros.contract.tables import CAMERA_TYPES, COMMAND_TYPES, JOINT_STATE
from rewact_ros.data.bags.reader import Bag
from rewact_ros.data.dataset.info import read_info, read_json

BAG_S = 5.0  # of the bag's beginning, which tells the rates


def read_dataset(root: Path) -> Found:
    """Features of a LeRobotDataset v3.

    Raises:
        DatasetError: no such data set; for v2.1 the message has the command that converts it.
        ContractError: it has no joints or actions.
    """
    info, found = read_info(root), Found()
    signature = signature_of_dataset(info)
    found.features.append(_features(signature["features"], signature["rate_hz"], str(root), found))
    return found


def read_checkpoint(folder: Path) -> Found:
    """Cameras of a policy, and names where it carries a contract's signature.

    Raises:
        ContractError: its config.json has no features.
        DatasetError: that file is not JSON.
    """
    found = Found()
    for name in ("contract.json", "config.json"):
        if not (folder / name).is_file():
            continue
        content = read_json(folder / name, folder)
        signature = content.get("signature", content)
        features = signature.get("features")
        if isinstance(features, dict):
            rate = signature.get("rate_hz", 0.0)
            rate_hz = float(rate) if isinstance(rate, int | float) and 0 < rate < 1e4 else 0.0
            found.features.append(_features(features, rate_hz, str(folder), found))
            return found
        inputs = content.get("input_features")
        if isinstance(inputs, dict):
            found.features.append(_features(_policy_features(inputs), 0.0, str(folder), found))
            return found
    raise ContractError(
        f"{folder}: expected a checkpoint whose config.json or contract.json has features"
    )


def read_bag(folder: Path, namespace: str = "") -> Found:
    """Topics, joints, sizes and rates of the first seconds of a recording; raises BagError."""
    found = Found()
    with Bag(folder, namespace) as bag:
        wanted = {
            topic: kind
            for topic, kind in list(bag.topics.items())[:MOST_STREAMS]
            if kind in (*CAMERA_TYPES, *COMMAND_TYPES, *NAMED_VALUES, *SCALARS)
            and usable_topic(topic, str(folder), found.notes)
        }
        start_ns, end_ns = bag.span_ns
        span: dict[str, list[int]] = {}
        last: dict[str, Any] = {}
        until = min(end_ns, start_ns + round(BAG_S * NANO))
        for message in bag.messages(wanted, start_ns, until):
            span.setdefault(message.topic, []).append(message.logged_ns)
            last[message.topic] = message.body
    for topic, body in last.items():
        times = span[topic]
        seconds = (times[-1] - times[0]) / NANO
        rate_hz = (len(times) - 1) / seconds if len(times) > 2 and seconds > 0 else 0.0
        _add(found, topic, wanted[topic], body, rate_hz, f"bag {folder}")
    return found


def _add(found: Found, topic: str, kind: str, body: Any, rate_hz: float, source: str) -> None:
    shown = topic.removeprefix("/")
    where = f"{source}: {shown}, {rate_hz:.1f} Hz"
    if kind in CAMERA_TYPES:
        from rewact_ros.ros.picture_size import camera_size

        try:
            height, width, said, depth = camera_size(body, shown)
        except ValueError as error:
            found.notes.append(f"{source}: {error}; not used")
            return
        shape = (height, width, 3)
        found.cameras.append(CameraStream(shown, kind, shape, rate_hz, f"{where}, {said}", depth))
    elif kind == JOINT_STATE and len(body.position):
        joints = usable_joints(body.name, source, found.notes)
        numbers = dict(zip(body.name, map(float, body.position), strict=False))
        found.joints.append(JointStream(shown, joints, rate_hz, where, numbers))
    elif kind in (*NAMED_VALUES, *SCALARS):
        header = getattr(body, "header", None)
        frame = str(header.frame_id) if header else ""
        found.values.append(ValueStream(shown, kind, rate_hz, where, frame))
    else:
        names = usable_joints(getattr(body, "joint_names", ()), source, found.notes)
        found.commands.append(CommandStream(shown, kind, names, "position", where))


def _policy_features(inputs: dict[str, Any]) -> dict[str, Any]:
    """LeRobot's policies have their pictures as (channels, height, width)."""
    made = {}
    for key, feature in inputs.items():
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if key.startswith(IMAGE_PREFIX) and isinstance(shape, list) and len(shape) == 3:
            made[key] = {"shape": [shape[1], shape[2], shape[0]]}
    return made


def _features(features: dict[str, Any], rate_hz: float, source: str, found: Found) -> Features:
    names = {}
    for key in (STATE_KEY, ACTION_KEY):
        given = features.get(key, {}).get("names", [])
        listed = given if isinstance(given, list) else []
        names[key] = usable_joints((str(n) for n in listed), source, found.notes)
    return Features(
        rate_hz,
        names[STATE_KEY],
        names[ACTION_KEY],
        {
            key.removeprefix(IMAGE_PREFIX): (int(f["shape"][0]), int(f["shape"][1]), 3)
            for key, f in features.items()
            if key.startswith(IMAGE_PREFIX) and f["shape"][2] == 3
        },
        source,
    )
