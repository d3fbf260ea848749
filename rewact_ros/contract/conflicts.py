"""Where the sources of a contract disagree: what, who says what, how to settle it."""

from collections.abc import Iterable, Sequence
from typing import Any

from rewact_ros.contract.choices import Choices
from rewact_ros.contract.found import Found, JointStream
from rewact_ros.contract.pairing import single
from rewact_ros.contract.plan_state import drivers_of, plan_state, value_streams, wanted
from rewact_ros.contract.state_values import NAMED_VALUES


def conflicts(found: Found, choices: Choices | None = None) -> list[str]:
    """One line for each; nothing is chosen silently."""
    choices = choices or Choices()
    return [
        *_unknown_topics(found, choices),
        *_missing_joints(found, choices),
        *_missing_values(found, choices),
        *_sizes(found),
        *_features(found),
        *_doubled(found),
    ]


def _unknown_topics(found: Found, choices: Choices) -> list[str]:
    """Options that name what is not there."""
    lines: list[str] = []
    options: tuple[tuple[str, Iterable[str], Sequence[Any]], ...] = (
        ("--camera", choices.cameras.values(), found.cameras),
        ("--value", choices.values.values(), found.values),
        ("--state", choices.states, found.joints),
        ("--command", choices.commands, found.commands),
    )
    for option, chosen, streams in options:
        known = [stream.topic for stream in streams]
        lines += [
            f"{option}: expected one of {', '.join(known)[:300] or 'none: nothing was found'}, got "
            f"{topic}; names are within the robot's namespace"
            for topic in chosen
            if topic not in known
        ]
    joints = {j for stream in found.joints for j in stream.joints}
    joints |= {j for stream in found.commands for j in stream.joints}
    lines += [
        f"--joint {name}: expected one of {', '.join(sorted(joints))[:300]}, got {driver}"
        for name, driver in choices.joints.items()
        if joints and driver not in joints
    ]
    return lines


def _missing_joints(found: Found, choices: Choices) -> list[str]:
    """Names of the data set that neither the driver nor a topic of numbers has."""
    if not found.joints:
        return []
    published = {j for stream in found.joints for j in stream.joints}
    drivers, _ = drivers_of(found, choices)
    observed = {n for item in plan_state(found, choices) for n in item.names}
    commanded = {j for stream in found.commands for j in stream.joints}
    free = any(not stream.joints for stream in found.commands)
    lines = []
    for key in ("state", "action"):
        features, names = wanted(found, key)
        if features is None:
            continue
        lacks = [
            n
            for n in single(names)
            if n not in observed
            and drivers.get(n, n) not in published
            and (key == "state" or not (free or drivers.get(n, n) in commanded))
        ]
        if lacks:
            where = "observation.state" if key == "state" else "action"
            lines.append(
                f"{where}: {features.source} has joint {lacks[0]}"
                f"{f' and {len(lacks) - 1} more' if len(lacks) > 1 else ''}, but "
                f"{found.joints[0].source} publishes {', '.join(sorted(published))[:300]}; use the "
                "data set of this robot, rename its joints in the driver, or say which joint it "
                f"is: --joint {lacks[0]}=JOINT"
            )
    return lines


def _missing_values(found: Found, choices: Choices) -> list[str]:
    """Poses and the like of the data set that no topic has, where the graph was looked at."""
    lines = []
    for item in plan_state(found, choices):
        if item.type in NAMED_VALUES and (found.joints or found.values):
            if value_streams(found, choices, item.name, [item.type]):
                continue
            known = ", ".join(f"{s.topic} ({s.type})" for s in found.values)[:300]
            lines.append(
                f"observation.state: the data set has {item.names[0]} to {item.names[-1]}, but no "
                f"topic sends {item.type}; there are {known or 'none'}; start the node that does"
            )
    return lines


def _sizes(found: Found) -> list[str]:
    lines = []
    sizes = {stream.shape for stream in found.cameras}
    for features in found.features:
        for name, shape in features.cameras.items():
            if sizes and shape not in sizes:
                lines.append(
                    f"observation.images.{name}: {features.source} has {list(shape)}, but "
                    f"{'; '.join(f'{s.topic} sends {list(s.shape)}' for s in found.cameras)[:300]};"
                    " set the camera to the data set's size"
                )
    return lines


def _features(found: Found) -> list[str]:
    lines = []
    for i, one in enumerate(found.features):
        for other in found.features[i + 1 :]:
            for what in ("rate_hz", "state", "action", "cameras"):
                a, b = getattr(one, what), getattr(other, what)
                if a and b and a != b:
                    lines.append(
                        f"{what}: {one.source} has {_short(a)}, {other.source} has {_short(b)}; "
                        "give one of them only"
                    )
    return lines


def _doubled(found: Found) -> Iterable[str]:
    topics: dict[str, JointStream] = {}
    for stream in found.joints:
        other = topics.setdefault(stream.topic, stream)
        if set(other.joints) != set(stream.joints):
            yield (
                f"{stream.topic}: {other.source} has {len(other.joints)} joints, {stream.source} "
                f"has {len(stream.joints)}; give one of them only"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
