"""The robot contract: what is observed, what is commanded, at which rate, within which limits."""

from typing import TYPE_CHECKING, Any

from rewact_ros.contract.load import load_contract, parse_contract
from rewact_ros.contract.schema import ActionPart, Camera, Contract, ContractError, Reset, StatePart
from rewact_ros.contract.signature import check_signature, image_shape, signature_of_dataset

if TYPE_CHECKING:
    from rewact_ros.contract.frames import (
        Frame,
        FrameAssembler,
        Sample,
        SampleError,
        Stale,
        select_joints,
        state_stream,
    )

__all__ = [
    "ActionPart",
    "Camera",
    "Contract",
    "ContractError",
    "Frame",
    "FrameAssembler",
    "Reset",
    "Sample",
    "SampleError",
    "Stale",
    "StatePart",
    "check_signature",
    "image_shape",
    "load_contract",
    "parse_contract",
    "select_joints",
    "signature_of_dataset",
    "state_stream",
]


def __getattr__(name: str) -> Any:
    """Frames need NumPy, which takes longer to import than a contract to check."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rewact_ros.contract import frames

    return getattr(frames, name)
