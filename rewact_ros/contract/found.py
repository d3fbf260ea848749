"""What is there of a robot, as its graph, model, data set, bag and checkpoint each tell it.

`merge` brings several into one and names where they disagree; nothing is chosen silently.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rewact_ros.contract.names import check_feature, check_text_name, check_topic
from rewact_ros.contract.problems import ContractError

MOST_STREAMS = 200


@dataclass(frozen=True)
class JointStream:
    """Joint states on one topic; `rate_hz` 0 is not known.

    `numbers`: joint → position as it came last, in the driver's own unit; may lack joints.
    """

    topic: str
    joints: tuple[str, ...]
    rate_hz: float
    source: str
    numbers: dict[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class CameraStream:
    """Images on one topic; `shape` is (height, width, 3); `rate_hz` 0 is not known."""

    topic: str
    type: str
    shape: tuple[int, int, int]
    rate_hz: float
    source: str
    depth: bool = False


@dataclass(frozen=True)
class ValueStream:
    """Poses, wrenches, twists or bare numbers on one topic; `width` numbers a message."""

    topic: str
    type: str
    rate_hz: float
    source: str
    frame_id: str = ""
    width: int = 1


@dataclass(frozen=True)
class CommandStream:
    """What something listens to for commands; no joints: these are not known.

    `topic` is the name of an action where `type` is one. `node` is who listens.
    """

    topic: str
    type: str
    joints: tuple[str, ...]
    command: str
    source: str
    node: str = ""


@dataclass(frozen=True)
class Controller:
    """A controller of ros2_control and the command interfaces that it needs, `joint/kind`."""

    name: str
    active: bool
    interfaces: tuple[str, ...]


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
        urdf: the model as text, or the file that it is in.
        links: link of the model → (its parent, the movable joint between them, or "").
        manager: node of the controller manager, where one answers.
        notes: what could not be read or is not used, one line each.
    """

    robot: str = ""
    tool: str = ""
    urdf: str | Path = ""
    links: dict[str, tuple[str, str]] = field(default_factory=dict)
    manager: str = ""
    controllers: list[Controller] = field(default_factory=list)
    values: list[ValueStream] = field(default_factory=list)
    joints: list[JointStream] = field(default_factory=list)
    cameras: list[CameraStream] = field(default_factory=list)
    commands: list[CommandStream] = field(default_factory=list)
    model: dict[str, JointModel] = field(default_factory=dict)
    features: list[Features] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


_LISTS = ("joints", "cameras", "values", "commands", "controllers", "features", "notes")


def merge(parts: Iterable[Found]) -> Found:
    """All that several sources found."""
    whole = Found()
    for part in parts:
        whole.robot = whole.robot or part.robot
        whole.manager = whole.manager or part.manager
        if not whole.urdf:
            whole.tool, whole.urdf, whole.links = part.tool, part.urdf, part.links
        for name in _LISTS:
            getattr(whole, name).extend(getattr(part, name))
        for joint, model in part.model.items():
            whole.model.setdefault(joint, model)
    return whole


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
