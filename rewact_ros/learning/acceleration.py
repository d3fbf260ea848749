"""Where a training runs: one accelerator for every trainer."""

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from rewact_ros.learning.imitation.settings import TrainError
from rewact_ros.policy.weights import precision_on


def make_accelerator(device: str, mixed_precision: str, threads: int) -> Accelerator:
    """Take the processes and devices that ``accelerate launch`` gave, or this process alone.

    Args:
        device: auto, cpu or cuda.
        mixed_precision: as accelerate names it; float32 instead, with a warning, where the CPU has
            no instructions for it.
        threads: torch's, where it trains on the CPU.

    Raises:
        TrainError: CUDA is asked for and not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainError("device cuda: no CUDA device is available here; use auto or cpu")
    cpu = device == "cpu" or not torch.cuda.is_available()
    if cpu:
        torch.set_num_threads(threads)
        mixed_precision = precision_on("cpu", mixed_precision)
    # A process may train twice, a classifier and then a policy, each in its own precision. What
    # accelerate keeps of the first training forbids that; the group of processes stays.
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    # The other processes wait while the first one decodes, validates and tests.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=6))
    return Accelerator(cpu=cpu, mixed_precision=mixed_precision, kwargs_handlers=[patience])
