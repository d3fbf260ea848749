"""A checkpoint as ONNX, made once and kept beside it.

The file's name holds a hash of all that the outputs depend on and of what made it, so that another
checkpoint, another version of the exporter or another torch makes a file of its own. It is float32
for every runtime; those that can compute in less convert it when they load it.
"""

import contextlib
import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path

import torch

from .checkpoint import CONFIG, LoadedPolicy
from .serving import ServingNetwork

EXPORTER_VERSION = 1  # raise it whenever the exported graph changes
_OPSET = 17
_FOLDER = "export"


def export_file(loaded: LoadedPolicy) -> Path:
    """Where the export of a checkpoint is kept."""
    digest = hashlib.sha256(f"{loaded.version} {EXPORTER_VERSION} {torch.__version__}".encode())
    files = [loaded.path / CONFIG, *sorted(loaded.path.glob("policy_*processor*"))]
    for file in files:
        digest.update(file.read_bytes())
    return loaded.path / _FOLDER / f"{digest.hexdigest()[:16]}.onnx"


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
