"""What is there of a robot, as its graph, model, data set, bag and checkpoint each tell it.

`merge` brings several into one and names where they disagree; nothing is chosen silently.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rewact_ros.contract.names import check_feature, check_text_name, check_topic
from rewact_ros.contract.problems import ContractError

MOST_STREAMS = 200


@dataclass(frozen=True)
class JointStream:
    """Joint states on one topic; `rate_hz` 0 is not known."""

    topic: str
    joints: tuple[str, ...]
    rate_hz: float
    source: str


@dataclass(frozen=True)
class CameraStream:
    """Images on one topic; `shape` is (height, width, 3); `rate_hz` 0 is not known."""

    topic: str
    type: str
    shape: tuple[int, int, int]
    rate_hz: float
    source: str


@dataclass(frozen=True)
class CommandStream:
    """A topic that something listens to for commands; no joints: these are not known."""

    topic: str
    type: str
    joints: tuple[str, ...]
    command: str
    source: str


@dataclass(frozen=True)
class JointModel:
    """A joint of a robot model, in rad or m; a limit is None where the model has none."""

    name: str
    unit: str
    low: float | None
    high: float | None
    velocity: float | None
    mimic: bool
    source: str


@dataclass(frozen=True)
class Features:
    """Features of a data set or a checkpoint; `rate_hz` 0 is not known."""

    rate_hz: float
    state: tuple[str, ...]
    action: tuple[str, ...]
    cameras: dict[str, tuple[int, int, int]]
    source: str


@dataclass
class Found:
    """Everything that was found of one robot.

    Attributes:
        notes: what could not be read or is not used, one line each.
    """

    robot: str = ""
    tool: str = ""
    joints: list[JointStream] = field(default_factory=list)
    cameras: list[CameraStream] = field(default_factory=list)
    commands: list[CommandStream] = field(default_factory=list)
    model: dict[str, JointModel] = field(default_factory=dict)
    features: list[Features] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(parts: Iterable[Found]) -> Found:
    """All that several sources found."""
    whole = Found()
    for part in parts:
        whole.robot = whole.robot or part.robot
        whole.tool = whole.tool or part.tool
        for name in ("joints", "cameras", "commands", "features", "notes"):
            getattr(whole, name).extend(getattr(part, name))
        for joint, model in part.model.items():
            whole.model.setdefault(joint, model)
    return whole


def conflicts(found: Found) -> list[str]:
    """Where the sources disagree, one line each: what, who says what, how to settle it."""
    lines = []
    published = {j for stream in found.joints for j in stream.joints}
    for features in found.features:
        for key, names in (("observation.state", features.state), ("action", features.action)):
            missing = [name for name in names if published and name not in published]
            if missing:
                lines.append(
                    f"{key}: {features.source} has joint {missing[0]}"
                    f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}, but "
                    f"{found.joints[0].source} publishes {', '.join(sorted(published))[:300]}; use "
                    "the data set of this robot, or rename its joints in the driver"
                )
        sizes = {stream.shape: stream for stream in found.cameras}
        for name, shape in features.cameras.items():
            if sizes and shape not in sizes:
                lines.append(
                    f"observation.images.{name}: {features.source} has {list(shape)}, but "
                    f"{'; '.join(f'{s.topic} sends {list(s.shape)}' for s in found.cameras)[:300]};"
                    " set the camera to the data set's size"
                )
    for i, one in enumerate(found.features):
        for other in found.features[i + 1 :]:
            for what in ("rate_hz", "state", "action", "cameras"):
                a, b = getattr(one, what), getattr(other, what)
                if a and b and a != b:
                    lines.append(
                        f"{what}: {one.source} has {_short(a)}, {other.source} has {_short(b)}; "
                        "give one of them only"
                    )
    lines += _doubled(found)
    return lines


def _doubled(found: Found) -> list[str]:
    topics: dict[str, JointStream] = {}
    lines = []
    for stream in found.joints:
        other = topics.setdefault(stream.topic, stream)
        if set(other.joints) != set(stream.joints):
            lines.append(
                f"{stream.topic}: {other.source} has {len(other.joints)} joints, {stream.source} "
                f"has {len(stream.joints)}; give one of them only"
            )
    return lines


def usable_joints(names: Iterable[object], source: str, notes: list[str]) -> tuple[str, ...]:
    """The names that a contract may have, each once; the others are noted."""
    kept: dict[str, None] = {}
    for name in names:
        try:
            kept.setdefault(check_text_name(source, name if isinstance(name, str) else repr(name)))
        except ContractError as error:
            notes.append(str(error))
    return tuple(kept)


def usable_topic(name: str, source: str, notes: list[str]) -> bool:
    """Whether a contract may have the topic; else it is noted."""
    try:
        check_topic(source, name)
    except ContractError as error:
        notes.append(str(error))
        return False
    return True


def camera_name(topic: str, taken: Iterable[str]) -> str:
    """A name for the camera of a topic, from the words in it that say something."""
    dull = {"image_raw", "image", "compressed", "color", "rgb", "camera", "image_rect_raw", ""}
    words = [word for word in topic.split("/") if word not in dull]
    base = "_".join(words[-2:]) or "camera"
    base = base.removeprefix("camera_").removesuffix("_camera") or base
    try:
        check_feature("camera", base)
    except ContractError:
        base = "camera"
    names, number = set(taken), 2
    name = base
    while name in names:
        name, number = f"{base}_{number}", number + 1
    return name


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
