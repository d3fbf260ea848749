"""Which recordings there are to export, under which contract, and which episodes they hold."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rewact_ros.contract import Contract, ContractError, parse_contract
from rewact_ros.data.bags.episode_file import EPISODE_FILE, OUTCOMES, EpisodeRecord, read_episode
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.ros.convert import to_ns
from rewact_ros.tokens import EpisodeOwners

EVENT_TOPIC = "rewact/episode_event"
_RUNNING, _VERDICT, _RELABELLED = 2, 4, 7  # rewact_ros/msg/EpisodeEvent
_BAG_FILES = (".mcap", ".db3")


@dataclass(frozen=True)
class RecordedBag:
    """One recording; `record` is None for one that our recorder did not write."""

    path: Path
    name: str
    contract: Contract
    namespace: str
    record: EpisodeRecord | None


@dataclass(frozen=True)
class Span:
    """An episode in a recording, from one time of recording to another, and how it was judged."""

    episode_id: str
    task: str
    outcome: str
    termination_reason: str
    start_ns: int
    end_ns: int


def recording_folders(paths: Iterable[Path]) -> list[Path]:
    """Recordings at the given places: bag folders, bag files, or folders of bag folders.

    Raises:
        BagError: no recording at one of them.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file() or _is_recording(path):
            found.append(path)
            continue
        inside = sorted(p for p in path.glob("*") if p.is_dir() and _is_recording(p))
        if not inside:
            raise BagError(
                f"{path}: no recording here; expected a bag (a folder with metadata.yaml, or a "
                f"file {' or '.join(_BAG_FILES)}) or a folder of bags"
            )
        found += inside
    unique = dict.fromkeys(path.resolve() for path in found)
    return list(unique)


def _is_recording(path: Path) -> bool:
    return (path / "metadata.yaml").is_file() or (path / EPISODE_FILE).is_file()


def open_recording(path: Path, contract: Contract | None, namespace: str | None) -> RecordedBag:
    """Find the contract of a recording: its own, or the given one where it has none.

    Raises:
        BagError: no contract, another one than was recorded under, or an episode without an end.
        ContractError: the recorded contract cannot be read.
    """
    record = read_episode(path) if (path / EPISODE_FILE).is_file() else None
    if record is not None and record.ended_ns is None:
        raise BagError(
            f"{path}: the episode has no end: it is being recorded, or its recorder was killed; "
            "stop it, or run `rewact bag recover`"
        )
    recorded = None
    if record is not None and record.contract is not None:
        try:
            recorded = parse_contract(record.contract, path)
        except ContractError as error:
            raise ContractError(f"{path / EPISODE_FILE}: contract: {error}") from None
    chosen = contract or recorded
    if chosen is None:
        raise BagError(f"{path}: was recorded without a contract; give --contract")
    if recorded is not None and recorded.hash != chosen.hash:
        raise BagError(
            f"{path}: was recorded under another contract: expected hash {chosen.hash[:12]}, got "
            f"{recorded.hash[:12]} ({recorded.robot}); leave --contract out, or export it apart"
        )
    if namespace is None:
        namespace = record.namespace if record is not None else ""
    return RecordedBag(path, path.stem if path.is_file() else path.name, chosen, namespace, record)


def episodes_of(recording: RecordedBag, bag: Bag) -> list[Span]:
    """The episodes of an open recording.

    Ours holds one, from the moment it ran to its end. Another one's are told by the episode events
    in it; without any it is one episode from end to end.
    """
    first_ns, last_ns = bag.span_ns
    record = recording.record
    if record is None:
        return _told(bag) or [_whole(recording, bag)]
    start_ns = record.running_ns or record.started_ns or first_ns
    judged = (record.outcome, record.termination_reason)
    return [Span(record.episode_id, record.task, *judged, start_ns, record.ended_ns or last_ns)]


def _whole(recording: RecordedBag, bag: Bag) -> Span:
    """All of a recording; its first image was taken before anything was recorded."""
    first_ns, last_ns = bag.span_ns
    first = next(bag.messages([bag.resolve(recording.contract.reference.topic)]), None)
    header = getattr(first.body, "header", None) if first is not None else None
    if header is not None:
        first_ns = min(first_ns, to_ns(header.stamp))
    return Span(recording.name, "", "unlabelled", "", first_ns, last_ns)


def _told(bag: Bag) -> list[Span]:
    """Episodes by the events RUNNING to VERDICT; a later event may change the outcome.

    Only who began an episode judges it: anybody can publish an event.
    """
    spans: dict[str, Span] = {}
    owners = EpisodeOwners()
    _, last_ns = bag.span_ns
    for message in bag.messages([bag.resolve(EVENT_TOPIC)]):
        body = message.body
        name = body.episode_id
        tokens = getattr(body, "proof", ""), getattr(body, "next", "")  # older events have none
        from_owner = owners.take(name, body.event <= _RUNNING, *tokens)
        if body.event == _RUNNING and name not in spans:
            span = Span(name, body.task, "unlabelled", "", message.logged_ns, last_ns)
            spans[name] = span
        elif body.event in (_VERDICT, _RELABELLED) and name in spans:
            known = body.outcome < len(OUTCOMES)
            if from_owner:
                outcome = OUTCOMES[body.outcome if known else 0]
                spans[name] = replace(spans[name], outcome=outcome)
            if body.event == _VERDICT:
                spans[name] = replace(
                    spans[name],
                    termination_reason=body.termination_reason,
                    end_ns=message.logged_ns,
                )
    return list(spans.values())
