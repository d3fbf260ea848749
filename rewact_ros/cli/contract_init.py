"""A contract from what is there: the sources are read, compared, and written down."""

from pathlib import Path

from rewact_ros.contract.draft import draft
from rewact_ros.contract.found import Found, conflicts, merge
from rewact_ros.contract.problems import ContractError
from rewact_ros.contract.urdf import read_urdf_file
from rewact_ros.files import replace_file


def find(
    graph: bool,
    controllers: bool,
    urdf: Path | None,
    dataset: Path | None,
    bag: Path | None,
    checkpoint: Path | None,
    namespace: str = "/",
    seconds: float = 3.0,
) -> Found:
    """Everything that the named sources tell; files first, for they may be refused."""
    from rewact_ros.contract.names import check_namespace

    space, parts = check_namespace("--namespace", namespace), []
    if not (graph or urdf or dataset or bag or checkpoint):
        raise ContractError(
            "contract init: expected a source: --graph, --urdf, --dataset, --bag or --checkpoint"
        )
    if urdf:
        parts.append(read_urdf_file(urdf))
    if dataset or bag or checkpoint:
        from rewact_ros.data.contract_facts import read_bag, read_checkpoint, read_dataset

        parts += [read_dataset(dataset)] if dataset else []
        parts += [read_checkpoint(checkpoint)] if checkpoint else []
        parts += [read_bag(bag, space)] if bag else []
    if graph:
        from rewact_ros.ros.graph_facts import open_graph

        parts.insert(0, open_graph(space, seconds, controllers))
    return merge(parts)


def write(found: Found, out: Path, robot: str = "", rate_hz: float = 0.0) -> list[str]:
    """Write the contract of what was found; returns the keys that are guesses.

    Raises:
        ContractError: the sources disagree, there is too little, or the file is there already.
    """
    if out.exists():
        raise ContractError(f"{out}: exists; name a file that does not, and compare the two")
    if lines := conflicts(found):
        raise ContractError("\n  ".join([f"the sources disagree in {len(lines)} places", *lines]))
    try:
        made = draft(found, robot, rate_hz)
    except ValueError as error:
        raise ContractError(str(error)) from None
    replace_file(out, made.text)
    return made.guesses
