"""Faults of the machine during a training, told in words with their mend."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from rewact_ros.learning.imitation.settings import TrainError, TrainSettings

_NO_MEMORY = ("can't allocate memory", "out of memory", "cannot allocate memory")
_NO_SPACE = ("no space left", "disk quota")


@contextmanager
def machine_faults_told(settings: TrainSettings) -> Iterator[None]:
    """Turn exhausted memory, a full disk and unwritable folders into a ``TrainError``."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        exhausted = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not exhausted and not any(words in str(error).lower() for words in _NO_MEMORY):
            raise
        raise TrainError(
            f"out of memory with batch_size {settings.batch_size} and policy settings "
            f"{settings.policy}: {_first_line(error)}; lower --batch-size, --policy image_size or "
            f"--policy chunk_size, or the number of --workers; {_intact(settings)}"
        ) from error
    except (OSError, SafetensorError) as error:
        code, text = getattr(error, "errno", None), str(error).lower()
        if code in (errno.ENOSPC, errno.EDQUOT) or any(words in text for words in _NO_SPACE):
            raise TrainError(
                f"{settings.out}: the disk is full ({_first_line(error)}); make room, then go on "
                f"with --resume; {_intact(settings)}"
            ) from error
        if not isinstance(error, OSError) or code is None or isinstance(error, FileNotFoundError):
            raise
        raise TrainError(
            f"{error.filename or settings.out}: {error.strerror}; {_intact(settings)}"
        ) from error


def _intact(settings: TrainSettings) -> str:
    last = Path(settings.out) / "checkpoints" / "last"
    if not last.exists():
        return "no checkpoint had been written yet"
    return f"the checkpoint of step {int(last.resolve().name)} in {last} is intact"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
