"""Joint states and teleop: names, numbers, units, limits, and who holds a deadman down."""

from collections.abc import Iterator
from difflib import get_close_matches

from rewact_ros.checks.facts import Facts, JointsHeard
from rewact_ros.checks.finding import Finding, error, warning
from rewact_ros.checks.graph import ALIKE, JOY, absence, refusals
from rewact_ros.contract.frames import SampleError, select_joints
from rewact_ros.contract.names import resolve
from rewact_ros.contract.schema import StatePart
from rewact_ros.control.limits import outside_joints

# Limits beyond the model's by less are rounding; by more than this share of its range, wrong.
ROUNDING, WRONG = 1e-3, 0.1


def names(facts: Facts) -> Iterator[Finding]:
    """Whether each joint of the contract is in the messages, once."""
    for part, stream in _parts(facts):
        if not stream.names:  # of another type, or nothing came
            continue
        try:
            select_joints(
                stream.names, [0.0] * len(stream.names), part.drivers or part.joints, part.topic
            )
        except SampleError as fault:
            wanted = part.drivers or part.joints
            missing = next((joint for joint in wanted if joint not in stream.names), "")
            near = get_close_matches(missing, stream.names, 1, ALIKE) if missing else []
            mend = "correct 'joints' in the contract, or the driver's names"
            mend += f": the nearest is {near[0]}" if near else ""
            yield error(stream.where, mend=mend, fault=str(fault))


def numbers(facts: Facts) -> Iterator[Finding]:
    """Whether each joint has a value, and a finite one."""
    for part, stream in _parts(facts):
        if not stream.names or next(_names_of(part, stream), ""):
            continue
        try:
            select_joints(stream.names, stream.values, part.drivers or part.joints, part.topic)
        except SampleError as fault:
            if not stream.values:
                yield error(
                    stream.where,
                    f"'{part.field}' of each joint",
                    "none",
                    "correct 'field' in the contract, or let the driver fill it in",
                )
            else:
                yield error(stream.where, mend="look at the driver", fault=str(fault))


def _names_of(part: StatePart, stream: JointsHeard) -> Iterator[str]:
    try:
        select_joints(
            stream.names, [0.0] * len(stream.names), part.drivers or part.joints, part.topic
        )
    except SampleError as fault:
        yield str(fault)


def states(facts: Facts) -> Iterator[Finding]:
    """Whether the publishers of a topic agree on where the joints are: `hil/arm`'s own refusal."""
    yield from refusals(facts, "joint states")


def units(facts: Facts) -> Iterator[Finding]:
    """Whether a position can be of the contract's unit: degrees, millimetres, ticks, turns."""
    yield from (_outside(text) for text, hint in _places(facts) if hint)


def pose(facts: Facts) -> Iterator[Finding]:
    """Whether the arm stands inside its limits, as `hil/arm` demands."""
    yield from (_outside(text) for text, hint in _places(facts) if not hint)


def _places(facts: Facts) -> list[tuple[str, str]]:
    path = facts.path
    assert path is not None
    measured = path.joints.measured
    return [] if measured is None else outside_joints(measured, path.contract)


def _outside(text: str) -> Finding:
    return error("", fault=text)


def limits(facts: Facts) -> Iterator[Finding]:
    """Whether the contract's limits are within the model's."""
    contract, model = facts.contract, facts.model
    assert contract is not None and model is not None
    if model.fault:
        yield warning("/robot_description", fault=model.fault)
        return
    for i, part in enumerate(contract.action):
        if part.name:  # a pose has no joints of its own
            continue
        columns = zip(part.joints, part.units, part.position, part.velocity, strict=True)
        for joint, unit, (low, high), speed in columns:
            where, known = f"action[{i}].position.{joint}", model.joints.get(joint)
            if known is None:
                yield warning(
                    f"action[{i}].joints",
                    "joints of /robot_description",
                    f"{joint}, which it lacks",
                    "correct the name, or give the robot its own model",
                )
                continue
            if unit != known.unit and unit != "normalized":
                yield error(
                    f"action[{i}].unit", f"{known.unit} as in /robot_description", f"{unit} for "
                    f"{joint}", "correct 'unit' in the contract",
                )  # fmt: skip
                continue
            if unit == "normalized":
                continue
            if known.low is not None and known.high is not None:
                beyond = max(known.low - low, high - known.high)
                if beyond > ROUNDING:
                    make = error if beyond > WRONG * (known.high - known.low) else warning
                    yield make(
                        where,
                        f"within [{known.low:g}, {known.high:g}] of /robot_description",
                        f"[{low:g}, {high:g}]",
                        "narrow the limits in the contract: the robot has stops there",
                    )
            if known.velocity is not None and speed > known.velocity * (1 + ROUNDING):
                yield warning(
                    f"action[{i}].velocity.{joint}",
                    f"at most {known.velocity:g} of /robot_description",
                    f"{speed:g}",
                    "lower it in the contract",
                )


# Teleop -------------------------------------------------------------------------------------------


def teleop(facts: Facts) -> Iterator[Finding]:
    """Whether each source of the contract sends what it promises."""
    contract, graph, path, now = facts.contract, facts.graph, facts.path, facts.now
    assert contract is not None and graph is not None and path is not None and now is not None
    for source in contract.teleop:
        topic = resolve(source.topic, facts.namespace)
        problem = absence(graph, topic, source.type)
        if problem:
            off = "nearest" not in problem.mend and problem.fault == "nobody publishes it"
            make = warning if off else error  # a device that is switched off is nobody's fault
            where = f"teleop.{source.name}: {topic}"
            yield make(where, problem.expected, problem.got, problem.mend, problem.fault)
            continue
        device = path.human.inputs[source.name]
        fault = device.fault(now.age_s)
        if fault and fault != device.deadman_silence(now.age_s):
            yield error("", fault=fault)
        else:
            refusal = path.human.refusal(source.name, now.age_s)
            if refusal and refusal != fault:
                yield warning("", fault=refusal)


def deadman(facts: Facts) -> Iterator[Finding]:
    """Whether each deadman is there, and up: pressed, `hil/arm` refuses."""
    contract, graph, path, now = facts.contract, facts.graph, facts.path, facts.now
    assert contract is not None and graph is not None and path is not None and now is not None
    yield from refusals(facts, "deadman")
    for source in contract.teleop:
        device, asked = path.human.inputs[source.name], source.deadman
        absent = absence(graph, resolve(source.topic, facts.namespace), source.type)
        if asked is None or absent:
            continue
        problem = absence(graph, resolve(asked.topic, facts.namespace), JOY)
        buttons = facts.teleop_buttons.get(source.name)
        key = f"teleop.{source.name}.deadman"
        if problem:
            yield error(
                f"{key}: {problem.key}", problem.expected, problem.got, problem.mend, problem.fault
            )
        elif buttons is not None and buttons <= asked.button:
            yield error(
                f"{key}.button",
                f"a button of the {buttons} that {asked.topic} has, from 0",
                f"{asked.button}",
                "correct 'button' in the contract",
            )
        elif silence := device.deadman_silence(now.age_s):
            yield error("", fault=silence)


def rest(facts: Facts) -> Iterator[Finding]:
    """Whether a leader is at rest: one that moves takes the arm over at once."""
    path, now = facts.path, facts.now
    assert path is not None and now is not None
    for name, device in path.human.inputs.items():
        why = device.asks(now.age_s)
        if why and not device.pressed:
            yield error(
                f"teleop.{name}",
                "a leader at rest",
                why,
                "hold it still, or raise 'takeover_motion': armed now, the arm would follow it",
            )


def _parts(facts: Facts) -> list[tuple[StatePart, JointsHeard]]:
    assert facts.contract is not None and facts.joints is not None
    return list(zip(facts.contract.state, facts.joints, strict=True))
