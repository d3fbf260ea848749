"""The table of checks: one row each, with what it needs; adding a check is one row here."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rewact_ros.checks import graph, joints, machine, policy, streams
from rewact_ros.checks.facts import Facts
from rewact_ros.checks.finding import Finding, Result, result

# Part of the facts -> how to give it, where it was not.
NEEDS = {
    "machine": "",
    "contract": "give --contract",
    "graph": "",
    "teleop": "the contract has no teleop source",
    "model": "nobody publishes /robot_description",
    "checkpoint": "give --policy",
    "dataset": "give --dataset",
    "calibration": "give --calibration",
    "engine": "give --policy",
}


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: as it is shown.
        about: the question that it answers.
        needs: parts of the facts, of NEEDS.
        judge: facts that have these parts → findings; none: all is well.
    """

    name: str
    about: str
    needs: tuple[str, ...]
    judge: Callable[[Facts], Iterable[Finding]]


GRAPH = ("contract", "graph")
CHECKS = (
    Check("ros", "ROS and its messages are installed", ("machine",), machine.environment),
    Check("rmw", "the middleware is the one asked for", ("machine",), machine.rmw),
    Check("domain", "domain and discovery range can be", ("machine",), machine.domain),
    Check("open files", "a node may open enough", ("machine",), machine.open_files),
    Check("shared memory", "pictures have room in it", ("machine",), machine.shared_memory),
    Check("memory", "nodes have room in it", ("machine",), machine.memory),
    Check("disk", "recordings have room", ("machine",), machine.disk),
    Check("load", "the cores have time", ("machine",), machine.load),
    Check("real time", "hil may have a priority", ("machine",), machine.realtime),
    Check("time sync", "the clock is kept in step", ("machine",), machine.time_sync),
    Check("discovery", "other nodes are found", ("machine", *GRAPH), graph.discovery),
    Check("topics", "what is observed is published", GRAPH, graph.topics),
    Check("types", "as the contract's type", GRAPH, graph.types),
    Check("qos", "both ends of a topic meet", GRAPH, graph.qos),
    Check("publishers", "each stream has one", GRAPH, graph.publishers),
    Check("silence", "what is published also comes", GRAPH, streams.silent),
    Check("rates", "as often as the contract says", GRAPH, streams.rates),
    Check("losses", "nothing is lost on the way", GRAPH, streams.losses),
    Check("jitter", "evenly", GRAPH, streams.jitter),
    Check("stamps", "header stamps are of now", GRAPH, streams.stamps),
    Check("skew", "streams make one observation", GRAPH, streams.skew),
    Check("encodings", "pictures can be read", GRAPH, streams.encodings),
    Check("sizes", "pictures have the contract's size", GRAPH, streams.sizes),
    Check("black", "there is something in them", GRAPH, streams.black),
    Check("frozen", "they change", GRAPH, streams.frozen),
    Check("swapped", "each camera is where its name says", GRAPH, streams.swapped),
    Check("joint names", "each joint comes, once", GRAPH, joints.names),
    Check("joint values", "each has a finite value", GRAPH, joints.numbers),
    Check("joint states", "their publishers agree", GRAPH, joints.states),
    Check("units", "positions can be of their unit", GRAPH, joints.units),
    Check("pose", "the arm stands inside its limits", GRAPH, joints.pose),
    Check("limits", "they are within the model's", (*GRAPH, "model"), joints.limits),
    Check("controllers", "commands reach one, in its order", GRAPH, graph.controllers),
    Check("commands", "nobody else sends any", GRAPH, graph.commands),
    Check("one hil", "there is no second one", GRAPH, graph.one_hil),
    Check("teleop", "each source sends what it promises", (*GRAPH, "teleop"), joints.teleop),
    Check("deadman", "each is there, and up", (*GRAPH, "teleop"), joints.deadman),
    Check("rest", "no leader moves", (*GRAPH, "teleop"), joints.rest),
    Check("checkpoint", "its files are whole", ("checkpoint",), policy.checkpoint),
    Check("fits", "it was made for this robot", ("contract", "checkpoint"), policy.fits),
    Check("statistics", "they are finite", ("checkpoint",), policy.statistics),
    Check("quantiles", "joints are where the data were", (*GRAPH, "checkpoint"), policy.quantiles),
    Check("dataset", "it is of this robot", ("contract", "dataset"), policy.dataset),
    Check("calibration", "its thresholds hold here", ("calibration",), policy.calibration),
    Check("engine", "it is installed, its device there", ("machine", "engine"), policy.engine),
    Check("room", "the policy fits the memory", ("machine", "checkpoint"), policy.room),
)


def examine(facts: Facts, checks: Iterable[Check] = CHECKS) -> Iterator[Result]:
    """Make every check that the facts allow; the others say what they need."""
    for check in checks:
        lacking = next((need for need in check.needs if not _has(facts, need)), "")
        if lacking:
            why = facts.no_graph if lacking == "graph" else NEEDS[lacking]
            yield Result(check.name, not_asked=why)
        else:
            yield result(check.name, check.judge(facts))


def _has(facts: Facts, need: str) -> bool:
    if need == "teleop":
        return bool(facts.contract and facts.contract.teleop)
    return getattr(facts, need) is not None
