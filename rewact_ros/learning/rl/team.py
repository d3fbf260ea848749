"""One learner on several processes, each with a device of its own (accelerate).

The first process leads: it has journal, robot and checkpoints, and tells the others what enters the
buffers and when to update. They keep the same buffers and the same weights. Of a batch, which all
draw alike, each computes its part; gradients are averaged.
"""

import os
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor, distributed

from .settings import LearnError


class Order(IntEnum):
    """What the leader tells."""

    DEMO, OWN, COUNTS, UPDATE, END = range(5)


class Team:
    """This process alone.

    Attributes:
        rank, count: number of this process, and of all.
        device: of this process; None: as the settings say.
    """

    rank, count = 0, 1
    device: str | None = None

    def tell(self, order: Order, content: bytes = b"") -> None:
        """Tell the others; only the leader may."""

    def hear(self) -> tuple[Order, bytes]:
        """Wait for what the leader tells."""
        return Order.END, b""

    def part(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Of a batch (B, ...) the rows of this process."""
        return batch

    def average(self, tensors: list[Tensor | None]) -> None:
        """Average over the processes, in place."""


class Processes(Team):
    """Those that ``accelerate launch`` started.

    Args:
        device: auto, cpu or cuda.

    Raises:
        TrainError: CUDA is asked for and not there.
    """

    def __init__(self, device: str) -> None:
        from rewact_ros.learning.acceleration import make_accelerator

        accelerator = make_accelerator(device, "no", torch.get_num_threads())
        self.rank, self.count = accelerator.process_index, accelerator.num_processes
        # Its type alone, which is all that LeRobot knows: accelerate made this one the current one.
        self._device, self.device = accelerator.device, accelerator.device.type

    def tell(self, order: Order, content: bytes = b"") -> None:
        """As of ``Team``: a head of two numbers, then the content."""
        if self.rank:
            return
        distributed.broadcast(torch.tensor([order, len(content)], device=self._device), 0)
        if content:
            body = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            distributed.broadcast(body.to(self._device), 0)

    def hear(self) -> tuple[Order, bytes]:
        """As of ``Team``."""
        head = torch.zeros(2, dtype=torch.int64, device=self._device)
        distributed.broadcast(head, 0)
        order, size = head.tolist()
        if not size:
            return Order(order), b""
        body = torch.zeros(size, dtype=torch.uint8, device=self._device)
        distributed.broadcast(body, 0)
        return Order(order), body.cpu().numpy().tobytes()

    def part(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As of ``Team``: every ``count``-th row, so that each has its share of every source."""

        def rows(value: object) -> object:
            if isinstance(value, dict):
                return {name: rows(inner) for name, inner in value.items()}
            return value[self.rank :: self.count] if isinstance(value, Tensor) else value

        return {name: rows(value) for name, value in batch.items()}

    def average(self, tensors: list[Tensor | None]) -> None:
        """As of ``Team``, in one message."""
        known = [tensor for tensor in tensors if tensor is not None]
        # One message: a network of many small tensors would wait for the wire at each.
        flat = torch.cat([tensor.reshape(-1).float() for tensor in known])
        distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(known, flat.split([t.numel() for t in known]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def make_team(device: str, batch_size: int) -> Team:
    """All processes of ``accelerate launch``, or this one alone.

    Args:
        device: auto, cpu or cuda.
        batch_size: of the learner, which they share.

    Raises:
        LearnError: they cannot share it evenly.
        TrainError: CUDA is asked for and not there.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team()
    team = Processes(device)
    if batch_size % team.count:
        raise LearnError(
            f"batch_size: expected a multiple of the {team.count} processes, got {batch_size}"
        )
    return team


def follows() -> bool:
    """Whether another process of ``accelerate launch`` leads this one."""
    return int(os.environ.get("RANK", "0")) > 0
