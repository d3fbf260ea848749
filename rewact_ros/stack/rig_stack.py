"""A rig together with the real processes that run beside it, in a ROS domain of its own."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewact_ros.contract import Contract, load_contract
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import command_transport_environment, processes
from rewact_ros.stack.domain import kept_environment, own_domain
from rewact_ros.stack.rig import Rig
from rewact_ros.stack.runner import Runner


@dataclass(frozen=True)
class Setup:
    """What the processes run with."""

    contract: str = ""
    params_file: str = ""
    policy: str = ""


@dataclass(frozen=True)
class Robot:
    """A rig with the processes that run beside it."""

    rig: Rig
    runner: Runner
    contract: Contract


@contextlib.contextmanager
def robot(
    setup: Setup,
    plays: tuple[str, ...],
    runs: tuple[str, ...],
    rate_factor: float = 1.0,
    own: bool = True,
    **more: Any,
) -> Iterator[Robot]:
    """A rig that plays some parts beside processes that run the others.

    Args:
        rate_factor: of everything that the rig publishes.
        own: in a ROS domain of its own; otherwise in the one of the robot around it.
        more: further arguments of `BringUp`.
    """
    args = BringUp(
        contract=setup.contract,
        params_file=setup.params_file,
        policy=setup.policy if "policy" in runs else "none",
        **more,
    )
    with contextlib.ExitStack() as stack:
        if own:
            stack.enter_context(kept_environment("ROS_DOMAIN_ID"))
            os.environ.pop("ROS_DOMAIN_ID", None)
            stack.callback(own_domain().release)
        contract = load_contract(setup.contract)
        rig = Rig(contract, plays, args.namespace)
        rig.rate_factor = rate_factor
        wanted = [process for process in processes(args) if process.name in runs]
        runner = stack.enter_context(Runner(wanted, lambda line: None))
        # What is measured must not be how long a stopped neighbour's lock keeps the rig waiting.
        transport = command_transport_environment()
        with kept_environment(*transport):
            os.environ.update(transport)
            stack.enter_context(rig)
        rig.look_after = runner.poll
        yield Robot(rig, runner, contract)


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
