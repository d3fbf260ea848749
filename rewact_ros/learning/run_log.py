"""Scalars of a run: TensorBoard always, Weights & Biases where a project is named."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch.utils.tensorboard import SummaryWriter

from rewact_ros.learning.imitation.settings import TrainError


class _Settings(Protocol):
    """A dataclass that says where a run lies, and to which project of wandb it belongs."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def out(self) -> str: ...

    @property
    def wandb(self) -> str | None: ...


class RunLog:
    """Writes scalars under ``<out>/tensorboard`` and, with ``settings.wandb``, to wandb.

    wandb takes its mode from ``WANDB_MODE`` (``offline`` needs no account) and writes below
    ``<out>/wandb``; a resumed run goes on under the same id.

    Args:
        settings: the run's.
        resumed_at: step that a resumed run goes on from; later scalars are written anew.

    Raises:
        TrainError: wandb is asked for but not installed.
    """

    def __init__(self, settings: _Settings, resumed_at: int | None) -> None:
        out = Path(settings.out)
        self._wandb = _start_wandb(settings, out) if settings.wandb else None
        self._board = SummaryWriter(out / "tensorboard", purge_step=resumed_at)

    def add(self, group: str, scalars: dict[str, float], step: int) -> None:
        """Record ``group/name`` for every scalar."""
        for name, value in scalars.items():
            self._board.add_scalar(f"{group}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log({f"{group}/{k}": v for k, v in scalars.items()}, step=step)

    def close(self) -> None:
        """Flush both."""
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish(quiet=True)


def _start_wandb(settings: _Settings, out: Path) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise TrainError(
            f"wandb {settings.wandb}: wandb is not installed; pip install wandb, "
            "or leave --wandb out (TensorBoard is always written)"
        ) from error
    out.mkdir(parents=True, exist_ok=True)
    known = out / "wandb_id"
    identity = known.read_text() if known.exists() else wandb.util.generate_id()
    known.write_text(identity)
    return wandb.init(
        project=settings.wandb,
        name=out.name,
        id=identity,
        resume="allow",
        dir=str(out),
        config=asdict(settings),
        settings=wandb.Settings(silent=True),
    )
