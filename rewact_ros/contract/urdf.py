"""Joints of a URDF: names, units and limits. Entities, huge files and odd numbers are refused."""

import math
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from rewact_ros.contract.found import Found, JointModel, usable_joints
from rewact_ros.contract.problems import ContractError
from rewact_ros.strict_yaml import YamlError, read_text

MAX_URDF_BYTES = 16 << 20
MOST_MODEL_JOINTS = 2000
MAX_ELEMENT_DEPTH = 100
_UNITS = {"revolute": "rad", "continuous": "rad", "prismatic": "m"}


def read_urdf_file(path: Path) -> Found:
    """As `read_urdf`, of a file.

    Raises:
        ContractError: see `read_urdf`.
        OSError: it cannot be read.
    """
    try:
        text = read_text(path, MAX_URDF_BYTES)
    except YamlError as error:
        raise ContractError(f"{path}: {error}") from None
    found = read_urdf(text, str(path))
    found.urdf = path
    return found


def read_urdf(text: str, source: str) -> Found:
    """Movable joints of a robot model.

    Args:
        text: the URDF, as a file or `/robot_description` has it.
        source: where it is from, for messages and comments.

    Raises:
        ContractError: not XML, too large, with entities or a document type, or no robot.
    """
    if len(text) > MAX_URDF_BYTES:
        raise ContractError(f"{source}: expected at most {MAX_URDF_BYTES} characters of URDF")
    root = _parse(text, source)
    if root.tag != "robot":
        raise ContractError(
            f"{source}: expected <robot>, got <{root.tag[:60]}>; give a URDF (xacro first)"
        )
    found = Found()
    found.robot = root.get("name", "")
    joints = root.findall("joint")
    if len(joints) > MOST_MODEL_JOINTS:
        raise ContractError(f"{source}: expected at most {MOST_MODEL_JOINTS} joints")
    for joint in joints:
        unit = _UNITS.get(joint.get("type", ""))
        if unit and (names := usable_joints([joint.get("name", "")], source, found.notes)):
            found.model[names[0]] = _joint(joint, names[0], unit, source, found.notes)
    found.urdf, found.links = text, _links(joints)
    found.tool = _tool(found.links)
    return found


def _joint(
    joint: ElementTree.Element, name: str, unit: str, source: str, notes: list[str]
) -> JointModel:
    limit = joint.find("limit")
    bounded = limit is not None and joint.get("type") != "continuous"

    def value(key: str) -> float | None:
        text = limit.get(key) if limit is not None else None
        try:
            number = math.nan if text is None else float(text)
        except ValueError:
            number = math.inf
        if math.isfinite(number) and abs(number) <= 1e6:
            return number
        if text is not None:
            notes.append(f"{source}: {name}: {key} is {text[:40]!r}, which is no limit; not used")
        return None

    # A limit without `lower` and `upper` has 0 for both, by URDF's rules.
    low, high = (value("lower"), value("upper")) if bounded else (None, None)
    if low is not None and high is not None and low >= high:
        notes.append(f"{source}: {name}: limits [{low}, {high}] leave no way; not used")
        low = high = None
    speed = value("velocity")
    mimic = joint.find("mimic") is not None
    return JointModel(name, unit, low, high, speed if speed and speed > 0 else None, mimic, source)


def _links(joints: list[ElementTree.Element]) -> dict[str, tuple[str, str]]:
    """Link → (its parent, the movable joint between them, or "")."""
    links = {}
    for joint in joints:
        parent, child = joint.find("parent"), joint.find("child")
        if parent is not None and child is not None:
            moves = joint.get("type", "") in _UNITS and joint.find("mimic") is None
            name = joint.get("name", "") if moves else ""
            links[child.get("link", "")] = parent.get("link", ""), name
    return links


def _tool(links: dict[str, tuple[str, str]]) -> str:
    """The last link of the longest chain: where a tool is."""
    return max(links, key=lambda link: len(chain(links, link)), default="")


def chain(links: dict[str, tuple[str, str]], link: str) -> list[tuple[str, str]]:
    """(link, movable joint above it or "") from a link up to the base, which comes last."""
    found, seen = [], set()
    while link not in seen:
        seen.add(link)
        parent, joint = links.get(link, ("", ""))
        found.append((link, joint))
        if not parent:
            break
        link = parent
    return found


def _parse(text: str, source: str) -> ElementTree.Element:
    """The tree; a document type or an entity, which may name other files, is refused."""
    builder, depth = ElementTree.TreeBuilder(), 0
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise ContractError(
            f"{source}: a document type or entity has no place in a URDF; remove it"
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_ELEMENT_DEPTH:
            raise ContractError(
                f"{source}: more than {MAX_ELEMENT_DEPTH} levels inside one another"
            )
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise ContractError(f"{source}: not XML: {error}; give the URDF whole") from None
    return builder.close()
