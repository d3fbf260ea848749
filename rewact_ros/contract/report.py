"""What `rewact contract check` and `show` print of a contract."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rewact_ros.contract.problems import Problem
from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY, ActionPart, Contract, StatePart


def problem_line(path: Path, problem: Problem) -> str:
    """One problem as compilers write it, so that an editor jumps to its line."""
    return f"{path}:{problem.line or 1}: {problem.text}"


def problem_record(problem: Problem) -> dict[str, Any]:
    """One problem as JSON has it; what is not known is an empty string."""
    return {
        "part": problem.part,
        "key": problem.key,
        "line": problem.line or 1,
        "expected": problem.expected,
        "got": problem.got or problem.fault,
        "mend": problem.mend,
        "text": problem.text,
    }


def summary(contract: Contract) -> str:
    """One line: what a contract has."""
    values = " values" if any(not part.of_joints for part in contract.state) else ""
    return (
        f"{contract.robot}: {len(contract.state_names)} observed{values} and "
        f"{len(contract.action_names)} commanded joints, {len(contract.cameras)} cameras, "
        f"{contract.rate_hz:g} Hz, commands at {contract.command_rate_hz:g} Hz"
    )


def description(contract: Contract) -> dict[str, Any]:
    """Features with shape, dtype and names in order, as data sets and checkpoints have them."""
    features = contract.dataset_features()
    signature = contract.signature()["features"]
    shown = {
        key: {
            "dtype": "uint8" if key not in (STATE_KEY, ACTION_KEY) else feature["dtype"],
            "shape": list(feature["shape"]),
            **{name: value for name, value in signature[key].items() if name != "shape"},
        }
        for key, feature in features.items()
    }
    return {
        "robot": contract.robot,
        "rate_hz": contract.rate_hz,
        "hash": contract.hash,
        "features": shown,
        "topics": {
            **_topics(STATE_KEY, contract.state),
            **{camera.key: f"{camera.topic} ({camera.type})" for camera in contract.cameras},
            **_topics(ACTION_KEY, contract.action),
        },
    }


def _topics(key: str, parts: Sequence[StatePart | ActionPart]) -> dict[str, str]:
    return {f"{key}[{i}]": f"{part.topic} ({part.type})" for i, part in enumerate(parts)}


def description_text(contract: Contract) -> str:
    """The same for a person."""
    about = description(contract)
    lines = [summary(contract), f"hash {about['hash']}"]
    for key, feature in about["features"].items():
        lines.append(f"\n{key}: {feature['dtype']} {feature['shape']}")
        names = feature.get("names", [])
        kinds = feature.get("field") or feature.get("command") or []
        for i, name in enumerate(names):
            lines.append(f"  {i:3} {name}: {kinds[i]}, {feature['units'][i]}")
    lines.append("\ntopics")
    lines += [f"  {key}: {topic}" for key, topic in about["topics"].items()]
    return "\n".join(lines)
