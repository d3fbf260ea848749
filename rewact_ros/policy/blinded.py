"""A checkpoint under a code: the same network, and nothing that tells which one it is.

The policy node publishes the hash of the weights' file as its version, and an update names folder
and hash. A note in the header of that file, which no loader reads, makes another hash of it at each
trial. So topics, logs and bags of a blinded trial name the code alone, and the running stack needs
no mode of its own for it.
"""

import json
import shutil
from pathlib import Path

from rewact_ros.files import replace_file

from .checkpoint_files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles

_KEPT = (".json", ".safetensors")  # what loaders read; a README would tell the name
_NOTE = "trial"
_ALIGNED = 8  # bytes; safetensors' own writers begin the tensors so


def stage_blinded(files: CheckpointFiles, folder: Path, code: str) -> Path:
    """Write a checkpoint into the new folder ``folder / code``, and return that.

    The weights are the same bit by bit. Their file, and so the version of the policy, differ for
    each code.

    Raises:
        CheckpointError: no whole checkpoint.
        OSError: it cannot be written.
    """
    files.read(CONFIG)  # says what is missing before anything is written
    target = folder / code
    shutil.rmtree(target, ignore_errors=True)  # of a trial that was lost
    for name in files.names:
        if name.endswith(_KEPT):
            content = files.read(name)
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if name == WEIGHTS:
                content = _noted(content, code, str(files.path / name))
            replace_file(place, content)
    return target


def _noted(content: bytes, code: str, what: str) -> bytes:
    """A safetensors file with a note in its header; offsets count from the header's end."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise CheckpointError(f"{what}: not a whole safetensors file; copy the checkpoint again")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = {**header.get("__metadata__", {}), _NOTE: code}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
