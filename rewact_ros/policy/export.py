"""A checkpoint as ONNX, made once and kept in the user's own cache.

Not in the checkpoint's folder: who may write there could put another network in its place. The
file's name is a hash of all files of the checkpoint and of what made it, so that another
checkpoint, another version of the exporter or another torch makes a file of its own. It is float32
for every runtime; those that can compute in less convert it when they load it.

`python -m rewact_ros.policy.export FOLDER` makes it and ends.
"""

import contextlib
import hashlib
import io
import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import torch

from rewact_ros.files import replace_file

from .checkpoint import LoadedPolicy, load_policy
from .checkpoint_files import CheckpointFiles
from .serving import ServingNetwork

EXPORTER_VERSION = 2  # raise it whenever the exported graph changes
_OPSET = 17
_CACHE = Path("rewact_ros", "exports")
_KEPT = 16  # the newest; each is about as large as the weights
_APART_TIMEOUT_S = 300.0
_APART_NICENESS = 10


def export_file(sha256: str) -> Path:
    """Where the export of a checkpoint with this SHA-256 (of its folder) is kept.

    Raises:
        OSError: there is no place for it that this user alone can write.
    """
    if not sha256:
        raise FileNotFoundError("a policy that is in no folder has no export")
    digest = hashlib.sha256(f"{sha256} {EXPORTER_VERSION} {torch.__version__}".encode())
    return _cache() / f"{digest.hexdigest()[:32]}.onnx"


def _cache() -> Path:
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # a user without a home
        raise FileNotFoundError(str(error)) from error
    folder = Path(home) / _CACHE
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder}: others can write it")
    return folder


def exported(loaded: LoadedPolicy) -> bytes:
    """The checkpoint's ONNX, from the cache or made anew and, where possible, kept there.

    Raises:
        ValueError: the policy cannot be served in this form.
        RuntimeError: torch cannot export it.
    """
    with contextlib.suppress(OSError):
        return export_file(loaded.sha256).read_bytes()
    content = to_onnx(ServingNetwork(loaded))
    with contextlib.suppress(OSError):  # a folder that cannot be written costs time, no more
        _keep(export_file(loaded.sha256), content)
    return content


def export_apart(files: CheckpointFiles) -> None:
    """Make a checkpoint's export where it has none, in a process of its own.

    Exporting holds the interpreter for a second or so: beside a policy that moves a robot it must
    not happen in the same one. What cannot be made or kept is left to `exported`, which says why.
    """
    try:
        if export_file(files.sha256).is_file():
            return
        subprocess.run(
            [sys.executable, "-m", __name__, str(files.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_APART_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return


def carry_export(of: str, to: str) -> None:
    """Let a checkpoint have the export of another that is the same network, where one is kept.

    Args:
        of, to: SHA-256 of their folders.
    """
    with contextlib.suppress(OSError):
        _keep(export_file(to), export_file(of).read_bytes())


def discard_export(of: str) -> None:
    """Forget the export of a checkpoint that will not run again."""
    with contextlib.suppress(OSError):
        export_file(of).unlink(missing_ok=True)


def to_onnx(network: ServingNetwork) -> bytes:
    """Export a network; inputs and outputs have the names of ``inputs`` and ``outputs``."""
    arguments = tuple(torch.zeros(shape, dtype=dtype) for _, shape, dtype in network.inputs)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # this exporter is called old; the new one needs onnxscript
        torch.onnx.export(
            network,
            arguments,
            buffer,  # type: ignore[arg-type]  # this exporter's stub leaves files in memory out
            input_names=[key for key, _, _ in network.inputs],
            output_names=network.outputs,
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def discard(loaded: LoadedPolicy) -> None:
    """Forget a kept export that turned out to be of no use."""
    discard_export(loaded.sha256)


def _keep(file: Path, content: bytes) -> None:
    """Write whole or not at all, and drop what has long not been made anew."""
    replace_file(file, content, mode=0o600)
    kept = sorted(file.parent.glob("*.onnx"), key=lambda other: other.stat().st_mtime_ns)
    for other in kept[:-_KEPT]:
        other.unlink(missing_ok=True)


def main() -> None:
    """Make and keep the export of the checkpoint folder that the command line names."""
    os.nice(_APART_NICENESS)  # a robot may be moving beside it
    torch.set_num_threads(1)
    exported(load_policy(sys.argv[1], "cpu"))


if __name__ == "__main__":
    main()
