"""Where the commanded joints are, of the state parts that came."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Contract

FloatArray = NDArray[np.float64]


def measured_action(
    contract: Contract, parts: Mapping[int, NDArray[Any]], unobserved: FloatArray | None = None
) -> FloatArray | None:
    """(A,) float64 measured values in action order; None while a part of them is absent.

    Args:
        contract: whose `measuring` parts are needed.
        parts: (J,) values of state parts, by their index.
        unobserved: (A,) what stands for joints that nobody measures; only theirs is looked at.
            None: the `rest` that the contract declares.
    """
    if not all(i in parts for i in contract.measuring):
        return None
    at = {
        joint: value
        for i in contract.measuring
        for joint, value in zip(contract.state[i].joints, parts[i], strict=True)
    }
    place = rest_pose(contract) if unobserved is None else np.array(unobserved, dtype=np.float64)
    first = 0
    for part in contract.action:
        if part.observed:
            place[first : first + len(part.joints)] = [at[joint] for joint in part.joints]
        first += len(part.joints)
    return place


def rest_pose(contract: Contract) -> FloatArray:
    """(A,) the declared `rest` of joints that are not observed; NaN for all others."""
    rest = [part.rest or (np.nan,) * len(part.joints) for part in contract.action]
    return np.array([value for values in rest for value in values], dtype=np.float64)
