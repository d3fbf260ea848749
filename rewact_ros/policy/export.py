"""A checkpoint as ONNX, made once and kept beside it.

The file's name holds a hash of all that the outputs depend on and of what made it, so that another
checkpoint, another version of the exporter or another torch makes a file of its own. It is float32
for every runtime; those that can compute in less convert it when they load it.

`python -m rewact_ros.policy.export FOLDER` makes it and ends.
"""

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from .checkpoint import CONFIG, WEIGHTS, LoadedPolicy, load_policy, weights_version
from .serving import ServingNetwork

EXPORTER_VERSION = 2  # raise it whenever the exported graph changes
_OPSET = 17
_FOLDER = "export"
_APART_TIMEOUT_S = 300.0
_APART_NICENESS = 10


def export_file(loaded: LoadedPolicy) -> Path:
    """Where the export of a checkpoint is kept."""
    return _file(loaded.path, loaded.version)


def _file(folder: Path, version: str) -> Path:
    digest = hashlib.sha256(f"{version} {EXPORTER_VERSION} {torch.__version__}".encode())
    for file in [folder / CONFIG, *sorted(folder.glob("policy_*processor*"))]:
        digest.update(file.read_bytes())
    return folder / _FOLDER / f"{digest.hexdigest()[:16]}.onnx"


def exported(loaded: LoadedPolicy) -> bytes:
    """The checkpoint's ONNX, from the file beside it or made anew and, where possible, kept there.

    Raises:
        ValueError: the policy cannot be served in this form.
        RuntimeError: torch cannot export it.
    """
    file = export_file(loaded)
    with contextlib.suppress(OSError):
        return file.read_bytes()
    content = to_onnx(ServingNetwork(loaded))
    with contextlib.suppress(OSError):  # a folder that cannot be written costs time, no more
        _keep(file, content)
    return content


def export_apart(folder: Path) -> None:
    """Make a checkpoint's export where it has none, in a process of its own.

    Exporting holds the interpreter for a second or so: beside a policy that moves a robot it must
    not happen in the same one. What cannot be made or kept is left to `exported`, which says why.
    """
    try:
        if _file(folder, weights_version(folder / WEIGHTS)).is_file():
            return
        subprocess.run(
            [sys.executable, "-m", __name__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_APART_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return


def to_onnx(network: ServingNetwork) -> bytes:
    """Export a network; inputs and outputs have the names of ``inputs`` and ``outputs``."""
    arguments = tuple(torch.zeros(shape, dtype=dtype) for _, shape, dtype in network.inputs)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # this exporter is called old; the new one needs onnxscript
        torch.onnx.export(
            network,
            arguments,
            buffer,
            input_names=[key for key, _, _ in network.inputs],
            output_names=network.outputs,
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def discard(loaded: LoadedPolicy) -> None:
    """Forget a kept export that turned out to be of no use."""
    with contextlib.suppress(OSError):
        export_file(loaded).unlink(missing_ok=True)


def _keep(file: Path, content: bytes) -> None:
    """Write whole or not at all, and drop exports of other versions."""
    file.parent.mkdir(exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, file)
    finally:
        Path(partial).unlink(missing_ok=True)
    for other in file.parent.glob("*.onnx"):
        if other != file:
            other.unlink(missing_ok=True)


def main() -> None:
    """Make and keep the export of the checkpoint folder that the command line names."""
    os.nice(_APART_NICENESS)  # a robot may be moving beside it
    torch.set_num_threads(1)
    exported(load_policy(sys.argv[1], "cpu"))


if __name__ == "__main__":
    main()
