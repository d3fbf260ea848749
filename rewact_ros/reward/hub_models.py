"""Models of the Hub that a reward model is built on: taken from this machine's cache, or named.

Nothing is downloaded here, and no code is taken from a repository because a checkpoint names it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from rewact_ros.policy.checkpoint_files import CheckpointError
from rewact_ros.policy.processors import HUB_NAME

_CODE = b"auto_map"  # key by which transformers find a repository's own code


def require_cached(where: str, names: Sequence[str], trusted: frozenset[str]) -> list[str]:
    """Refuse a checkpoint whose models of the Hub are not on this machine.

    Args:
        where: names the checkpoint in errors.
        names: of repositories of the Hub.
        trusted: names that LeRobot's own defaults have: these may bring code, as LeRobot says.

    Returns:
        the revision of each, as the cache has it.

    Raises:
        CheckpointError: a name that is none of the Hub, that is not here, or whose code would run.
    """
    return [_revision(f"{where}: {name[:120]}", name, name in trusted) for name in names]


def _revision(what: str, name: str, trusted: bool) -> str:
    # A folder of that name in the working directory would go before the Hub's repository.
    if not HUB_NAME.fullmatch(name) or Path(name).exists():
        raise CheckpointError(
            f"{what}: expected a repository of the Hub, such as lerobot/resnet10, and no folder of "
            "that name here"
        )
    found = huggingface_hub.try_to_load_from_cache(name, "config.json")
    if not isinstance(found, str):
        raise CheckpointError(
            f"{what}: its weights are not on this machine, and nothing is downloaded here: "
            f"hf download {name}"
        )
    snapshot = Path(found).parent
    if not trusted and (code := _code_in(snapshot)):
        raise CheckpointError(
            f"{what}: {code}: its own code would run, and none does because a checkpoint names "
            "it; take a backbone that transformers have"
        )
    return snapshot.name


def _code_in(snapshot: Path) -> str:
    """The first file of a repository that is code or leads to some; "": there is none."""
    for file in sorted(snapshot.rglob("*")):
        if file.suffix == ".py" or (file.suffix == ".json" and _CODE in file.read_bytes()):
            return file.name
    return ""


@contextmanager
def offline() -> Iterator[None]:
    """Whatever is loaded meanwhile comes from this machine: a library that asks the Hub fails."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
