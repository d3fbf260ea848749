"""YAML to `Contract`: strict, and every refusal names the key, what was expected and what came.

All that is wrong is told at once. Nothing here needs NumPy or ROS: a check takes a blink.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml
from rewact_ros.contract.edge import convert
from rewact_ros.contract.load_action import (
    SAID,
    action_sections,
    binary,
    check_poses_observed,
    check_rates,
    check_single,
    drive,
    said_type,
)
from rewact_ros.contract.load_controllers import controllers
from rewact_ros.contract.load_state import state_part, state_sections
from rewact_ros.contract.load_teleop import read_tool, teleop_source
from rewact_ros.contract.names import Stream, check_feature, topic_problems
from rewact_ros.contract.problems import (
    ContractError,
    Problem,
    Problems,
    refusal,
    shown,
    with_lines,
)
from rewact_ros.contract.schema import (
    ACTION_KEY,
    IMAGE_PREFIX,
    STATE_KEY,
    ActionPart,
    Camera,
    Contract,
    OnViolation,
    Reset,
    TeleopSource,
)
from rewact_ros.contract.sections import Section, interval
from rewact_ros.contract.tables import CAMERA, ON_VIOLATION, RESET, TOP, contract_format
from rewact_ros.contract.turns import turns_hint
from rewact_ros.contract.unobserved import check_observed, check_rest
from rewact_ros.formats import FORMAT_KEY

# Of a depth camera: nearer is 0 in 16UC1, which means nothing; farther, it has no numbers.
NEAREST_M, FARTHEST_M = 0.001, 65.0


def load_contract(path: str | Path, namespace: str = "/") -> Contract:
    """Read a contract file, for a robot in a namespace as ROS writes it, such as `/left`.

    Raises:
        ContractError: the file is missing, not strict YAML, any key is unknown, missing or wrong,
            or two streams have one topic, in that namespace or in none; with all `problems`, each
            with its line.
    """
    path, notes = Path(path), strict_yaml.Notes()
    try:
        data = strict_yaml.load(path, notes=notes)
    except OSError as error:
        mend = "give a file like config/robots/vx300s.yaml"
        raise _of_file(path, [Problem("", fault=str(error.strerror), mend=mend)]) from None
    except strict_yaml.YamlError as error:
        problem = Problem(error.key, fault=error.what, line=error.line)
        raise ContractError(f"contract {error}", [problem]) from None
    if data is None:
        raise _of_file(path, [Problem("", fault="the file is empty")])
    faults = [Problem(fault.key, fault=fault.what, line=fault.line) for fault in notes.faults]
    contract = None
    try:
        contract = parse_contract(data, path.parent, namespace)
    except ContractError as error:
        misread = {fault.key for fault in faults}
        faults += with_lines((p for p in error.problems if p.key not in misread), notes.lines)
    if contract is not None and not faults:
        return contract
    raise _of_file(path, sorted(faults, key=lambda problem: problem.line))


def _of_file(path: Path, problems: list[Problem]) -> ContractError:
    if len(problems) == 1:
        return ContractError(f"contract {path}: {problems[0]}", problems)
    listed = shown(problems).replace("\n", "\n  ")
    return ContractError(f"contract {path}: {len(problems)} errors\n  {listed}", problems)


def parse_contract(data: object, folder: Path | None = None, namespace: str = "/") -> Contract:
    """Build a contract from what `strict_yaml.load` returned; see `load_contract` for the errors.

    `folder` is what the paths of robot models in it are relative to (default: where we are).
    """
    if isinstance(data, dict) and FORMAT_KEY in data:  # of another format no more is read
        contract_format(FORMAT_KEY, data[FORMAT_KEY])
    problems = Problems()
    top = Section("", data, TOP, problems, prefix=IMAGE_PREFIX)
    if not top.is_mapping:
        problems.require_none()
    states = state_sections(top.data, problems)
    actions = action_sections(top.data, problems)
    cameras = [key for key in top.data if str(key).startswith(IMAGE_PREFIX)]
    streams: list[Stream] = []
    read_state = [state_part(section) for section in states]
    read_cameras = [_camera(key, top, problems, streams) for key in cameras]
    read_action = [_action_part(section) for section in actions]
    joints = _action_joints(actions)
    sources = _sources(top, problems, joints, folder or Path(), streams, actions)
    reset = _reset(top, problems, actions) if "reset" in top else None
    made_controllers = controllers(top, problems)
    kinematics = None
    if "kinematics" in top:
        data = top.data["kinematics"]
        kinematics = read_tool("kinematics", data, joints, folder or Path(), problems)
    _check_whole(top, states, actions, problems)
    owned = [*_topics(ACTION_KEY, actions, ""), *_topics(STATE_KEY, states, "state"), *streams]
    for space in dict.fromkeys(("/", namespace)):
        topic_problems(owned, space, problems)
    problems.require_none()
    values = {key: value for key, value in top.values.items() if key != FORMAT_KEY}
    return Contract(
        **{**values, "replan_hz": top.get("replan_hz") or top.get("rate_hz"),
           "controllers": made_controllers,
           "teleop": tuple(source for source in sources.values() if source), "reset": reset,
           "kinematics": kinematics},
        state=tuple(part for part in read_state if part),
        cameras=tuple(camera for camera in read_cameras if camera),
        action=tuple(part for part in read_action if part),
    )  # fmt: skip


def _camera(key: str, top: Section, problems: Problems, streams: list[Stream]) -> Camera | None:
    name = key.removeprefix(IMAGE_PREFIX)
    with problems.noted():
        check_feature(key, name)
    section = Section(key, top.data[key], CAMERA, problems)
    if topic := section.get("topic"):
        streams.append(Stream(f"{key}.topic", topic))
    depth = _depth(section)
    if not section.whole:
        return None
    values = {k: value for k, value in section.values.items() if k not in ("kind", "range")}
    return Camera(name=name, depth=depth, **values)


def _depth(section: Section) -> tuple[float, float] | None:
    """(near, far) of a depth camera, m; None: of colour, or `problems` has what is wrong."""
    where, depth = section.path("range"), section.get("kind") == "depth"
    if not depth and "range" in section and section.get("kind"):
        section.problems.add(where, "kind: depth beside it", "colour")
    elif depth and "range" not in section:
        mend = "give [near, far] in m, such as [0.2, 2.0]: what lies beyond looks like its end"
        section.problems.add(where, fault="missing beside kind: depth", mend=mend)
    elif depth:
        with section.problems.noted():
            near, far = interval(where, section.data["range"])
            if near < NEAREST_M or far > FARTHEST_M:
                expected = f"within {NEAREST_M:g} to {FARTHEST_M:g} m"
                raise refusal(where, expected, f"[{near:g}, {far:g}]")
            return near, far
    return None


def _action_part(section: Section) -> ActionPart | None:
    convert(section)
    check_rest(section)
    if "on_violation" in section:
        where = section.path("on_violation")
        chosen = Section(where, section.data["on_violation"], ON_VIOLATION, section.problems)
        section.values["on_violation"] = OnViolation(**chosen.values) if chosen.whole else None
    if section.get("command") in ("velocity", "twist") and "controller_timeout_s" not in section:
        section.problems.add(
            section.path("controller_timeout_s"),
            fault="missing",
            mend="a velocity interface keeps moving when commands stop, so give the time after "
            "which the robot's own controller stops",
        )
    if section.get("command") == "velocity" and "max_following_error" in section:
        mend = "leave it out: of velocities nothing says where the joint should be"
        where = section.path("max_following_error")
        section.problems.add(where, "command: position beside it", "velocity", mend)
    check_single(section)
    made = {"binary": binary(section)}
    if not section.whole:
        return None
    values = {**_renamed(section.values), **made, "drive": drive(section)}
    for key in ("max_effort", "workspace", "linear", "angular"):
        values.pop(key, None)
    if "max_following_error" not in section:
        values.pop("max_following_error", None)
    if values["drive"] is not None:
        values |= {"topic": f"{values['topic']}/{SAID}", "type": said_type(section)}
    return ActionPart(**values)


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    return {{"unit": "units"}.get(name, name): value for name, value in values.items()}


def _action_joints(actions: Sequence[Section]) -> tuple[str, ...] | None:
    """All commanded joints in order; None where some part's are not known."""
    joints = [part.get("joints") for part in actions]
    return None if not joints or None in joints else tuple(chain.from_iterable(joints))


def _sources(
    top: Section,
    problems: Problems,
    joints: tuple[str, ...] | None,
    folder: Path,
    streams: list[Stream],
    actions: Sequence[Section],
) -> dict[str, TeleopSource | None]:
    if "teleop" not in top:
        return {}
    names = top.data["teleop"]
    if not isinstance(names, dict):
        Section("teleop", names, (), problems)  # says that it is no mapping
        return {}
    found = {}
    for name, data in names.items():
        with problems.noted():
            check_feature("teleop", str(name))
        found[str(name)] = teleop_source(
            str(name), data, joints, folder, problems, streams, actions
        )
    streams.sort(key=lambda stream: stream.shared_as == "deadman")  # theirs give way
    return found


def _reset(top: Section, problems: Problems, actions: Sequence[Section]) -> Reset | None:
    section = Section("reset", top.data["reset"], RESET, problems)
    pose, joints = section.get("pose"), _action_joints(actions)
    if pose is not None and joints is not None:
        if len(pose) != len(joints):
            problems.add("reset.pose", f"{len(joints)} numbers in action order", str(len(pose)))
        else:
            _check_pose(pose, joints, actions, problems)
    return Reset(**section.values) if section.whole else None


def _check_pose(
    pose: tuple[float, ...],
    joints: tuple[str, ...],
    actions: Sequence[Section],
    problems: Problems,
) -> None:
    """The reset pose lies within the limits, as far as these are known."""
    columns = []
    for key in ("unit", "position"):
        known = [part.per_joint.get(key, (None,) * len(part.get("joints"))) for part in actions]
        columns.append(tuple(chain.from_iterable(known)))
    for joint, value, unit, limits in zip(joints, pose, *columns, strict=True):
        if limits is None or limits[0] <= value <= limits[1]:
            continue
        low, high = limits
        mend = turns_hint(unit, value, low, high).removeprefix("; ") if unit else ""
        problems.add(
            "reset.pose",
            f"{joint} within [{low}, {high}]",
            str(value),
            mend,
            fault=f"{joint}: expected within [{low}, {high}], got {value}",
        )


def _check_whole(
    top: Section, states: Sequence[Section], actions: Sequence[Section], problems: Problems
) -> None:
    """Rules that span sections, as far as these are known."""
    for key, sections in ((STATE_KEY, states), (ACTION_KEY, actions)):
        names = [joint for part in sections for joint in part.get("joints") or ()]
        for joint in sorted({name for name in names if names.count(name) > 1}):
            problems.add(f"{key}.joints", "each joint once", f"{joint} twice")
    if states and all(part.get("joints") and part.get("field") for part in states):
        measured = {j for s in states if s.get("field") == "position" for j in s.get("joints")}
        check_observed(actions, measured, problems)
    if len({part.get("on_violation") for part in actions} - {None}) > 1:
        problems.add(
            f"{ACTION_KEY}.on_violation",
            "the same for all parts",
            "several",
            fault="expected the same for all parts: one gate guards them all",
        )
    rate_hz, replan_hz = top.get("rate_hz"), top.get("replan_hz")
    if states:
        check_poses_observed(states, actions, problems)
    check_rates(actions, rate_hz, problems)
    if rate_hz and replan_hz and replan_hz > rate_hz:
        problems.add("replan_hz", f"at most rate_hz ({rate_hz})", str(replan_hz))


def _topics(key: str, sections: Sequence[Section], shared_as: str) -> list[Stream]:
    return [
        Stream(section.path("topic"), topic, shared_as)
        for section in sections
        if (topic := section.get("topic"))
    ]
