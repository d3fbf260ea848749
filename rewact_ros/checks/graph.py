"""Topics and nodes: who publishes what the contract observes, and who takes what it commands.

`hil/arm`, the nodes that observe and `rewact doctor` have their words from here.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from rewact_ros.checks.facts import Endpoint, Facts, Graph
from rewact_ros.checks.finding import Finding, error, warning
from rewact_ros.contract.names import resolve
from rewact_ros.contract.problems import Problem
from rewact_ros.contract.schema import ActionPart, Contract
from rewact_ros.contract.tables import CAMERA_TYPES, COMMAND_TYPES, JOINT_STATE
from rewact_ros.control.path import CommandPath

JOY = "sensor_msgs/msg/Joy"
# Nodes that hear commands and move nothing.
ONLY_HEAR = ("hil", "recorder", "transitions", "rosbag2_recorder")
# Names that have at least so much in common are taken for a slip of the pen.
ALIKE = 0.75


def absence(graph: Graph, topic: str, type_: str) -> Problem | None:
    """Why nothing of a type can come on a topic; None: somebody publishes it."""
    there = graph.publishers.get(topic, ())
    if any(endpoint.type == type_ for endpoint in there):
        return None
    if there:
        others = ", ".join(sorted({endpoint.type for endpoint in there}))
        mend = "correct 'type' in the contract"
        twin = _other_form(graph, topic, type_)
        mend += f", or 'topic': {twin} has {type_}" if twin else ""
        return Problem(topic, type_, others, mend, f"it is published as {others}, not as {type_}")
    near = nearest(topic, _topics_of(graph, type_))
    mend = "start the driver, or correct 'topic' in the contract"
    mend += f": the nearest that exists is {near}" if near else ""
    return Problem(topic, f"a publisher of {type_}", "none", mend, "nobody publishes it")


def taken_by(part: ActionPart) -> tuple[tuple[str, str], ...]:
    """(topic, type) by which a robot takes a part's commands; none: they are an action's goals."""
    if part.drive is None:
        return ((part.topic, part.type),)
    return ((part.drive.topic, part.drive.type),) if part.name else ()


def unheard(graph: Graph, name: str, type_: str, namespace: str = "/") -> Problem | None:
    """Why commands of a type reach no controller on a topic; None: one listens."""
    topic = resolve(name, namespace)
    there = takers(graph, topic, namespace)
    fitting = [endpoint for endpoint in there if endpoint.type == type_]
    unmet = [endpoint for endpoint in fitting if endpoint.mismatch]
    if fitting and len(unmet) == len(fitting):
        return _unmet(topic, unmet[0], "the controller")
    if fitting:
        return None
    if there:
        fault = f"{there[0].node} takes {there[0].type} there, not {type_}"
        mend = "correct 'type' in the contract, or start the controller that takes it"
        return Problem(topic, type_, there[0].type, mend, fault)
    near = nearest(topic, _topics_of(graph, type_))
    mend = "start the controller, or correct 'topic' in the contract"
    mend += f": the nearest that exists is {near}" if near else ""
    return Problem(topic, f"a controller that takes {type_}", "none", mend, "nobody listens")


def takers(graph: Graph, topic: str, namespace: str = "/") -> list[Endpoint]:
    """Who listens for commands on a topic, without those that only hear them."""
    ours = {resolve(name, namespace) for name in ONLY_HEAR}
    return [each for each in graph.listeners.get(topic, ()) if each.node not in ours]


def wrong_takers(graph: Graph, contract: Contract, namespace: str = "/") -> str:
    """Why arming would move nothing although somebody is there, or an empty string.

    That nobody listens at all may be discovery's delay; another type or QoS is not.
    """
    for topic, type_ in (taken for part in contract.action for taken in taken_by(part)):
        if takers(graph, resolve(topic, namespace), namespace):
            problem = unheard(graph, topic, type_, namespace)
            if problem:
                return problem.text
    return ""


def look_before_arming(path: CommandPath, graph: Graph, namespace: str = "/") -> None:
    """Let a command path know what only the graph tells, for its refusals."""
    problems = (
        absence(graph, resolve(part.topic, namespace), part.type)
        for part in (path.contract.state[i] for i in path.contract.measuring)
    )
    path.absent = next((problem.text for problem in problems if problem), "")
    path.untaken = wrong_takers(graph, path.contract, namespace)


def second_hil(others: Iterable[str]) -> str:
    """What is said where another hil runs in this namespace, or an empty string."""
    names = ", ".join(others)
    return f"another hil runs here, {names}" if names else ""


def nearest(topic: str, others: Iterable[str]) -> str:
    """The topic that is most like one that does not exist, or an empty string."""
    found = get_close_matches(topic, [other for other in others if other != topic], 1, ALIKE)
    return found[0] if found else ""


def observed(contract: Contract) -> list[tuple[str, str, str]]:
    """(key, topic, type) of all that a contract observes."""
    many = len(contract.state) > 1
    states = [
        (f"observation.state{f'[{i}]' if many else ''}", part.topic, part.type)
        for i, part in enumerate(contract.state)
    ]
    return states + [(camera.key, camera.topic, camera.type) for camera in contract.cameras]


def topics_of(contract: Contract, namespace: str) -> list[str]:
    """Whole names of every topic of a contract, each once."""
    names = [topic for _, topic, _ in observed(contract)]
    names += [part.topic for part in contract.action]
    names += [topic for part in contract.action for topic, _ in taken_by(part)]
    for source in contract.teleop:
        names += [source.topic, *([source.deadman.topic] if source.deadman else [])]
    return list(dict.fromkeys(resolve(name, namespace) for name in names))


# Checks -----------------------------------------------------------------------------------------


def discovery(facts: Facts) -> Iterator[Finding]:
    """Whether any node was found at all."""
    assert facts.graph is not None and facts.machine is not None
    if facts.graph.nodes:
        return
    environment = facts.machine.environment
    domain = environment.get("ROS_DOMAIN_ID", "").strip() or "0"
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
    yield error(
        f"ROS domain {domain}",
        "the robot's nodes",
        f"no other node (discovery range {reach})",
        "start the drivers, or set ROS_DOMAIN_ID, RMW_IMPLEMENTATION and the discovery range as "
        "they have them",
    )


def topics(facts: Facts) -> Iterator[Finding]:
    """Whether everything that is observed is published at all."""
    yield from (found for found, by_type in _absences(facts) if not by_type)


def types(facts: Facts) -> Iterator[Finding]:
    """Whether it is published as the contract says."""
    yield from (found for found, by_type in _absences(facts) if by_type)


def _absences(facts: Facts) -> Iterator[tuple[Finding, bool]]:
    contract, graph = facts.contract, facts.graph
    assert contract is not None and graph is not None
    for key, topic, type_ in observed(contract):
        problem = absence(graph, resolve(topic, facts.namespace), type_)
        if problem:
            yield _of(key, problem), "it is published as" in problem.fault


def qos(facts: Facts) -> Iterator[Finding]:
    """Whether QoS of both ends of every topic meet."""
    contract, graph = facts.contract, facts.graph
    assert contract is not None and graph is not None
    for key, topic, type_ in observed(contract):
        whole = resolve(topic, facts.namespace)
        for endpoint in graph.publishers.get(whole, ()):
            if endpoint.type == type_ and endpoint.mismatch:
                yield _of(key, _unmet(whole, endpoint, "the driver"))
    for i, topic, type_ in _commands(contract):
        whole = resolve(topic, facts.namespace)
        for endpoint in takers(graph, whole, facts.namespace):
            if endpoint.type == type_ and endpoint.mismatch:
                yield _of(f"action[{i}]", _unmet(whole, endpoint, "the controller"))


def publishers(facts: Facts) -> Iterator[Finding]:
    """Whether each stream has one publisher; two of a camera interleave their pictures."""
    contract, graph = facts.contract, facts.graph
    assert contract is not None and graph is not None
    for key, topic, _ in observed(contract):
        there = graph.publishers.get(resolve(topic, facts.namespace), ())
        if len(there) > 1:
            names = ", ".join(sorted(endpoint.node for endpoint in there))
            make = warning if key.startswith("observation.state") else error
            yield make(
                f"{key}: {topic}", "one publisher", f"{len(there)}: {names}", "stop all but one"
            )


def controllers(facts: Facts) -> Iterator[Finding]:
    """Whether every command topic has a controller that takes these joints in this order."""
    contract, graph = facts.contract, facts.graph
    assert contract is not None and graph is not None
    for i, name, type_ in _commands(contract):
        part = contract.action[i]
        problem = unheard(graph, name, type_, facts.namespace)
        if problem and "QoS" not in problem.fault:
            yield _of(f"action[{i}]", problem)
        topic = resolve(name, facts.namespace)
        for endpoint in takers(graph, topic, facts.namespace):
            told = graph.controllers.get((endpoint.node, topic))
            if told and endpoint.type == type_ and not part.name:
                yield from _joints_of(f"action[{i}]", part, endpoint.node, *told)


def _commands(contract: Contract) -> Iterator[tuple[int, str, str]]:
    """(part of the action, topic, type) of all that a robot takes by messages."""
    for i, part in enumerate(contract.action):
        yield from ((i, topic, type_) for topic, type_ in taken_by(part))


def _joints_of(
    key: str, part: ActionPart, node: str, joints: tuple[str, ...], command: str
) -> Iterator[Finding]:
    where, own = f"{key}: {part.topic}", part.drivers or part.joints
    if set(joints) != set(own):
        only = sorted(set(own) ^ set(joints))
        yield error(
            where,
            ", ".join(own),
            ", ".join(joints),
            "correct 'joints' in the contract, or the controller's",
            f"{node} takes other joints than the contract has: {', '.join(only)[:200]}",
        )
    elif joints != own and part.type == COMMAND_TYPES[0]:
        yield error(
            f"{where}.joints",
            ", ".join(own),
            f"{', '.join(joints)} in {node}",
            "this message has no names, so the order must be the controller's",
        )
    if command != part.command:
        yield error(
            f"{where}.command", part.command, f"{command} in {node}", "give it what it takes"
        )


def commands(facts: Facts) -> Iterator[Finding]:
    """Whether nobody but hil publishes robot commands: `hil/arm`'s own refusal."""
    yield from refusals(facts, "commands")


def one_hil(facts: Facts) -> Iterator[Finding]:
    """Whether at most one hil is there."""
    yield from refusals(facts, "hil")


def refusals(facts: Facts, of: str) -> Iterator[Finding]:
    """What `hil/arm` would refuse because of a part of the robot, in its words."""
    assert facts.path is not None and facts.now is not None
    for what, text in facts.path.refusals(facts.now):
        if what == of:
            yield error("", fault=text)


def _of(key: str, problem: Problem) -> Finding:
    where = f"{key}: {problem.key}"
    return error(where, problem.expected, problem.got, problem.mend, problem.fault)


def _unmet(topic: str, endpoint: Endpoint, whose: str) -> Problem:
    fault = f"QoS of {endpoint.node} does not meet ours: {endpoint.mismatch}"
    return Problem(topic, mend=f"change the QoS of {whose}", fault=fault)


def _topics_of(graph: Graph, type_: str) -> list[str]:
    """Topics of a type, but those that the contract has for something else."""
    taken = graph.publishers
    return [name for name, kinds in graph.types.items() if type_ in kinds and name not in taken]


def _other_form(graph: Graph, topic: str, type_: str) -> str:
    """The same camera's topic of the other type, as image_transport names it."""
    if type_ not in CAMERA_TYPES and type_ != JOINT_STATE:
        return ""
    for other in (f"{topic}/compressed", topic.removesuffix("/compressed")):
        if other != topic and type_ in graph.types.get(other, ()):
            return other
    return nearest(topic, _topics_of(graph, type_))
