"""Names by ROS's rules, without a running ROS: topics, namespaces, and what we name ourselves.

Source: https://design.ros2.org/articles/topic_and_service_names.html, as rcl and rmw check it.
"""

import re

from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY, Contract, ContractError

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
        raise ContractError(
            f"{where}: {_quoted(name)} is another topic in each node; write the full name, such as "
            "arm/joint_states"
        )
    if "{" in name or "}" in name:
        raise ContractError(
            f"{where}: {_quoted(name)} has a substitution; leave it out: a name without a leading "
            "/ is within the robot's namespace"
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
        raise ContractError(
            f"{where}: expected a name of at most {MAX_NAME} letters, digits and _ (. and - "
            f"inside), such as front_left, got {_quoted(name)}"
        )
    return name


def check_text_name(where: str, name: str) -> str:
    """Return the name of a joint or a robot, printable text of one line.

    Raises:
        ContractError: it is longer than a name, not printable, or begins or ends with a space.
    """
    if len(name) > MAX_NAME or not name.isprintable() or name != name.strip() or not name:
        raise ContractError(
            f"{where}: expected a name of 1 to {MAX_NAME} printable characters without spaces "
            f"around it, got {_quoted(name)}"
        )
    return name


def check_topics(contract: Contract, namespace: str = "/") -> None:
    """Refuse two streams on one topic, names resolved in the namespace.

    State parts may share a topic, and sources a deadman: these only listen to one message.

    Raises:
        ContractError: names both streams and the topic.
    """
    taken: dict[str, tuple[str, str]] = {}

    def take(where: str, topic: str, shared_as: str = "") -> None:
        full = resolve(topic, namespace)
        if full in _ROS or full.startswith(resolve("rewact/", namespace)):
            raise ContractError(
                f"{where}: '{topic}' is a topic of ROS or of this package; choose another"
            )
        if len(full) > MAX_TOPIC:
            raise ContractError(
                f"{where}: {full[:60]}… is longer than ROS's {MAX_TOPIC} characters"
            )
        other, as_what = taken.setdefault(full, (where, shared_as))
        if other != where and not (shared_as and as_what == shared_as):
            raise ContractError(
                f"{where}: '{topic}' is already the topic of {other} ({full}); give each stream "
                "its own"
            )

    for i, action in enumerate(contract.action):
        take(_part(ACTION_KEY, i, len(contract.action)), action.topic)
    for i, state in enumerate(contract.state):
        take(_part(STATE_KEY, i, len(contract.state)), state.topic, "state")
    for camera in contract.cameras:
        take(f"{camera.key}.topic", camera.topic)
    for source in contract.teleop:
        take(f"teleop.{source.name}.topic", source.topic)
    for source in contract.teleop:
        if source.deadman is not None:
            take(f"teleop.{source.name}.deadman.topic", source.deadman.topic, "deadman")


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
    raise ContractError(f"{where}: the {kind} {_quoted(name)} {reason}")


def _quoted(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")
