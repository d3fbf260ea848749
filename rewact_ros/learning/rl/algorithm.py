"""What one algorithm of fine-tuning does differently from the others; `algorithms` has them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # the settings come from here, and are shown without torch
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rewact_ros.policy.checkpoint import LoadedPolicy


class Candidates(Protocol):
    """Further chunks of the base that compete with its plan."""

    def around(
        self, plan: NDArray[np.float64], batch: dict[str, Tensor] | None, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Candidates (N, steps, A) about a plan (steps, A), the plan first; contract units."""


@dataclass(frozen=True)
class Algorithm:
    """One row of the table.

    Attributes:
        doc: what it learns, in one line.
        usual: settings that differ from the defaults of ``RLSettings``.
        has_actor: whether anything but the critic is trained.
        has_act_actor: whether the actor may be an ACT transformer.
        corrects: the actor's actions are bounded corrections of the base's plan, else commands.
        entropy: usual target of it, nats per step and action dimension.
        candidates: makes further chunks of the base compete, of (policy, how many with its plan,
            spread, (A,) scale of that); None: its plan is the only one.
        needs, why: one of these settings must be on, else this is wrong.
    """

    doc: str
    usual: Mapping[str, Any] = field(default_factory=dict)
    has_actor: bool = True
    has_act_actor: bool = False
    corrects: bool = False
    entropy: float = 0.0
    candidates: Callable[[LoadedPolicy, int, float, NDArray[np.float64]], Candidates] | None = None
    needs: tuple[str, ...] = ()
    why: str = ""
