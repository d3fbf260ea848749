"""The engine's bare call at a robot's pace, in a process set up like the policy node's.

python path_bare.py CONTRACT POLICY ENGINE SECONDS      prints the calls' times, ms, as JSON
"""

import json
import sys
import time

import numpy as np
from path_source import SHIFTS, pictures

from rewact_ros.contract import load_contract
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.engines import load_engine


def main() -> None:
    """Call once per period of the cameras, on the pictures that they give."""
    contract = load_contract(sys.argv[1])
    engine = load_engine(load_policy(sys.argv[2], "cpu"), sys.argv[3], "fp32", 1, contract.rate_hz)
    engine.warm_up()
    images = pictures(contract)
    state = np.zeros(len(contract.state_names), np.float32)
    times, start_s, seconds = [], time.monotonic(), float(sys.argv[4])
    for k in range(round(seconds * contract.rate_hz)):
        time.sleep(max(start_s + k * contract.dt_s - time.monotonic(), 0.0))
        values = {camera.key: images[camera.name][k % SHIFTS] for camera in contract.cameras}
        began_s = time.monotonic()
        engine.infer({"observation.state": state, **values}, k * contract.dt_s)
        times.append(1e3 * (time.monotonic() - began_s))
    print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
