"""A decision: what the policy is going to do, from who takes it to who executes it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Decision:
    """A chunk that is executed step by step until the next decision.

    ``msg/Decision`` carries it to the node ``transitions``, without its commands: what was executed
    is heard from the robot.

    Attributes:
        chunk: (steps, A) float32 commands, contract units, each in force at the end of its step.
        value: mean of what the critics expect of it; NaN while it is being carried out.
        choice: ``base``, ``sample`` (another chunk of the base) or ``actor``.
        speed: at which it is executed.
        step: of the chunk that begins now.
        decided: whether it was made just now; else it is being carried out.
        before: (A,) what was decided for the end of the step before; None: nothing was.
    """

    chunk: Tensor
    value: float
    choice: str
    speed: float
    step: int = 0
    decided: bool = True
    before: NDArray[np.float64] | None = None

    @property
    def targets(self) -> NDArray[np.float64]:
        """(k, A) float64 to be in force at the end of this robot step and of those after it."""
        return self.chunk[self.step :].numpy().astype(np.float64)

    @property
    def target(self) -> NDArray[np.float64]:
        """(A,) to be in force at the end of this robot step."""
        return self.targets[0]
