"""Names by ROS's rules, without a running ROS: topics, namespaces, and what we name ourselves.

Source: https://design.ros2.org/articles/topic_and_service_names.html, as rcl and rmw check it.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from rewact_ros.contract.problems import Problems, refusal
from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY, Contract

# rmw_validate_full_topic_name.h and rmw_validate_namespace.h.
MAX_TOPIC, MAX_NAMESPACE = 247, 245
# A name of a feature, a joint or a robot, in files, tables and messages.
MAX_NAME = 100
_FEATURE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
# Topics of every ROS node, and our own below `rewact`: a robot's stream would be taken for theirs.
_ROS = ("/rosout", "/parameter_events", "/clock", "/diagnostics", "/tf", "/tf_static")


def check_topic(where: str, name: str) -> str:
    """Return a topic's or service's name that every node takes for the same.

    Raises:
        ContractError: ROS would refuse it, or it is another name in each node (`~`, `{node}`).
    """
    if name.startswith("~"):
        raise refusal(
            where,
            "the full name of a topic",
            _quoted(name),
            "write the full name, such as arm/joint_states",
            f"{_quoted(name)} is another topic in each node",
        )
    if "{" in name or "}" in name:
        raise refusal(
            where,
            "a name without { }",
            _quoted(name),
            "leave it out: a name without a leading / is within the robot's namespace",
            f"{_quoted(name)} has a substitution",
        )
    _check(where, name, "topic", MAX_TOPIC)
    return name


def check_namespace(where: str, namespace: str) -> str:
    """Return a namespace as ROS writes it, such as `/left`; an empty one is `/`.

    Raises:
        ContractError: ROS would refuse it.
    """
    inner = namespace.removeprefix("/").removesuffix("/")
    if not inner:
        return "/"
    _check(where, inner, "namespace", MAX_NAMESPACE)
    return f"/{inner}"


def resolve(name: str, namespace: str = "/") -> str:
    """Full name of a topic in a namespace such as `left`, `/left` or `/`."""
    if name.startswith("/"):
        return name
    inner = namespace.strip("/")
    return f"/{inner}/{name}" if inner else f"/{name}"


def check_feature(where: str, name: str) -> str:
    """Return the name of a camera or a teleop source, which becomes part of keys and file names.

    Raises:
        ContractError: it is not letters, digits and `_ . -` in between.
    """
    if len(name) > MAX_NAME or ".." in name or not _FEATURE.fullmatch(name):
        raise refusal(
            where,
            f"a name of at most {MAX_NAME} letters, digits and _ (. and - inside), such as "
            "front_left",
            _quoted(name),
        )
    return name


def check_text_name(where: str, name: str) -> str:
    """Return the name of a joint or a robot, printable text of one line.

    Raises:
        ContractError: it is longer than a name, not printable, or begins or ends with a space.
    """
    if len(name) > MAX_NAME or not name.isprintable() or name != name.strip() or not name:
        raise refusal(
            where,
            f"a name of 1 to {MAX_NAME} printable characters without spaces around it",
            _quoted(name),
        )
    return name


class Stream(NamedTuple):
    """Topic of a key of the contract; streams that are shared as the same only listen to it."""

    where: str
    topic: str
    shared_as: str = ""


def check_topics(contract: Contract, namespace: str = "/") -> None:
    """Refuse two streams on one topic, names resolved in the namespace.

    State parts may share a topic, and sources a deadman: these only listen to one message.

    Raises:
        ContractError: names both streams and the topic.
    """
    problems = Problems()
    topic_problems(streams_of(contract), namespace, problems)
    problems.require_none()


def topic_problems(streams: Iterable[Stream], namespace: str, problems: Problems) -> None:
    """Note what `check_topics` refuses."""
    taken: dict[str, Stream] = {}
    for stream in streams:
        full = resolve(stream.topic, namespace)
        if full in _ROS or full.startswith(resolve("rewact/", namespace)):
            fault = f"'{stream.topic}' is a topic of ROS or of this package"
            problems.add(stream.where, fault=fault, mend="choose another")
        if len(full) > MAX_TOPIC:
            fault = f"{full[:60]}… is longer than ROS's {MAX_TOPIC} characters"
            problems.add(stream.where, fault=fault, mend="shorten it")
        other = taken.setdefault(full, stream)
        shared = stream.shared_as and stream.shared_as == other.shared_as
        if other.where != stream.where and not shared:
            fault = f"'{stream.topic}' is already the topic of {other.where} ({full})"
            problems.add(stream.where, fault=fault, mend="give each stream its own")


def streams_of(contract: Contract) -> list[Stream]:
    """Every topic of a contract, with the key that has it."""
    streams = [
        Stream(_part(ACTION_KEY, i, len(contract.action)), action.topic)
        for i, action in enumerate(contract.action)
    ]
    for i, state in enumerate(contract.state):
        streams.append(Stream(_part(STATE_KEY, i, len(contract.state)), state.topic, "state"))
    streams += [Stream(f"{camera.key}.topic", camera.topic) for camera in contract.cameras]
    streams += [Stream(f"teleop.{source.name}.topic", source.topic) for source in contract.teleop]
    streams += [
        Stream(f"teleop.{source.name}.feedback_topic", source.feedback_topic)
        for source in contract.teleop
        if source.feedback_topic
    ]
    return streams + [
        Stream(f"teleop.{source.name}.deadman.topic", source.deadman.topic, "deadman")
        for source in contract.teleop
        if source.deadman is not None
    ]


def _part(key: str, index: int, parts: int) -> str:
    return f"{key}.topic" if parts == 1 else f"{key}[{index}].topic"


def _check(where: str, name: str, kind: str, longest: int) -> None:
    tokens = name.removeprefix("/").split("/")
    wrong = re.search(r"[^A-Za-z0-9_/]", name)
    if wrong:
        reason = f"has {wrong[0]!r}; ROS names have letters, digits, _ and / only"
    elif not all(tokens):
        reason = "has an empty part; write one / between two names and none at the end"
    elif digit := next((token for token in tokens if token[0].isdigit()), ""):
        reason = f"has a part that begins with a digit ({digit}); begin it with a letter"
    elif len(name) + (not name.startswith("/")) > longest:
        reason = f"has {len(name)} characters; ROS takes {longest} with the namespace"
    else:
        return
    fault = f"the {kind} {_quoted(name)} {reason}"
    raise refusal(where, f"a {kind} as ROS takes it", _quoted(name), fault=fault)


def _quoted(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")
