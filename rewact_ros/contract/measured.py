"""Where the commanded joints are, of the state parts that came."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Contract


def measured_action(
    contract: Contract, parts: Mapping[int, NDArray[Any]]
) -> NDArray[np.float64] | None:
    """(A,) float64 measured values in action order; None while a part of them is absent.

    Args:
        contract: whose `measuring` parts are needed.
        parts: (J,) values of state parts, by their index.
    """
    if not all(i in parts for i in contract.measuring):
        return None
    # What nobody commands need not have come, and is not looked at.
    state = [
        parts.get(i, np.full(len(part.joints), np.nan)) for i, part in enumerate(contract.state)
    ]
    return np.concatenate(state)[contract.action_in_state].astype(np.float64)
