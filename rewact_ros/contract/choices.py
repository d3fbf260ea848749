"""What a person settles of a contract where the sources leave it open, by options or answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from rewact_ros.contract.problems import ContractError


@dataclass(frozen=True)
class Choices:
    """What was settled; what is empty is open.

    Attributes:
        rate_hz: of observations; 0: open.
        cameras: name in the data set → topic.
        joints: name in the data set → the driver's.
        values: name of a pose, a wrench, a twist or a number → topic.
        states: topics of joint states that count where several have a joint.
        commands: topic that commands → its joints; none: those that are known.
        tip: link that carries the tool.
    """

    robot: str = ""
    rate_hz: float = 0.0
    cameras: Mapping[str, str] = field(default_factory=dict)
    joints: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    states: tuple[str, ...] = ()
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tip: str = ""


@dataclass(frozen=True)
class Question:
    """One thing that the sources leave open.

    Attributes:
        option: that settles it without a terminal, such as `--camera front`.
        text: what is asked.
        candidates: what may be chosen; empty: any text.
        default: what counts where nobody answers.
    """

    option: str
    text: str
    candidates: tuple[str, ...]
    default: str

    def answered(self, choices: Choices, answer: str) -> Choices:
        """The choices with this one settled."""
        option, _, name = self.option.removeprefix("--").partition(" ")
        if option == "robot":
            return replace(choices, robot=answer)
        if option == "rate-hz":
            return replace(choices, rate_hz=float(answer))
        if option == "tip":
            return replace(choices, tip=answer)
        if option == "state":
            return replace(choices, states=(*choices.states, answer))
        if option == "command":
            return replace(choices, commands={**choices.commands, answer: ()})
        if option == "camera":
            return replace(choices, cameras={**choices.cameras, name: answer})
        if option == "joint":
            return replace(choices, joints={**choices.joints, name: answer})
        return replace(choices, values={**choices.values, name: answer})


def pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` of an option that may repeat.

    Raises:
        ContractError: no such pair, or a name twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ContractError(f"{option}: expected NAME=VALUE, got {text[:80]!r}")
        if name in found:
            raise ContractError(f"{option}: expected {name} once, got it twice")
        found[name] = value
    return found


def commands(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`TOPIC` or `TOPIC=JOINT,JOINT` of `--command`."""
    found = {}
    for text in texts:
        topic, _, joints = text.partition("=")
        found[topic] = tuple(filter(None, joints.split(",")))
    return found
