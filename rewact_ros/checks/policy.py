"""A policy before this robot: its files, its statistics, its thresholds, what shall run it."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from rewact_ros.checks.facts import Checkpoint, Facts
from rewact_ros.checks.finding import Finding, error, warning
from rewact_ros.contract.schema import STATE_KEY, ContractError
from rewact_ros.contract.signature import check_shapes, check_signature

# A state may lie outside the data by this share of their range; further, the policy never saw it.
MARGIN = 0.1
SPREAD = 4.0  # standard deviations, where there are no quantiles
WORKING_COPIES = 4  # of the weights in memory, while an engine is made


def checkpoint(facts: Facts) -> Iterator[Finding]:
    """Whether its files are there and whole."""
    found = _found(facts)
    if found.fault:
        yield error("", fault=found.fault)


def fits(facts: Facts) -> Iterator[Finding]:
    """Whether it was made for this robot: cameras, joints, order, units, rate, shapes."""
    contract, found = facts.contract, _found(facts)
    assert contract is not None
    if found.fault:
        return
    what = f"checkpoint {found.path}"
    try:
        if found.signature is not None and found.contract_hash != contract.hash:
            check_signature(contract, dict(found.signature), what)
        check_shapes(contract, found.shapes, what)
    except ContractError as fault:
        yield error("", fault=str(fault))


def statistics(facts: Facts) -> Iterator[Finding]:
    """Whether what normalises its inputs and outputs is finite, and not zero where it divides."""
    found = _found(facts)
    if found.fault:
        return
    for feature, known in found.statistics.items():
        for name, stored in known.items():
            values = np.asarray(stored, float)
            where = f"{found.path}: {feature}.{name}"
            if not np.isfinite(values).all():
                index = int(np.flatnonzero(~np.isfinite(values.ravel()))[0])
                mend = "train again, or copy the checkpoint anew"
                yield error(f"{where}[{index}]", "a finite number", "none", mend)
            elif name == "std" and (values <= 0).any():
                index = int(np.flatnonzero(values.ravel() <= 0)[0])
                yield warning(
                    f"{where}[{index}]", "more than 0", "0", "the data never moved it: is it dead?"
                )


def quantiles(facts: Facts) -> Iterator[Finding]:
    """Whether the joints and the gripper are where the training data had them."""
    path, found, contract = facts.path, _found(facts), facts.contract
    assert path is not None and contract is not None and facts.joints is not None
    known = bounds(found.statistics.get(STATE_KEY, {}))
    if known is None or any(not stream.state for stream in facts.joints):
        return
    low, high, source = known
    names = contract.state_names
    state = np.concatenate([stream.state for stream in facts.joints])
    if len(low) != len(state):
        return
    reach = MARGIN * np.maximum(high - low, 1e-6)
    for i in np.flatnonzero((state < low - reach) | (state > high + reach)):
        yield warning(
            f"{STATE_KEY}.{names[i]}",
            f"{low[i]:.3f} to {high[i]:.3f}, the {source} of the training data",
            f"{state[i]:.3f}",
            "move it there before the policy begins, or look at its unit and zero",
        )


def bounds(
    known: Mapping[str, NDArray[np.generic]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], str] | None:
    """(low, high, what they are) of a feature's statistics, (W,) each; None: they do not tell."""
    for low, high, name in (("q01", "q99", "1 % and 99 % quantiles"), ("min", "max", "range")):
        if low in known and high in known:
            return np.asarray(known[low], float), np.asarray(known[high], float), name
    if "mean" in known and "std" in known:
        mean, std = np.asarray(known["mean"], float), np.asarray(known["std"], float)
        return mean - SPREAD * std, mean + SPREAD * std, f"mean ± {SPREAD:g} standard deviations"
    return None


def dataset(facts: Facts) -> Iterator[Finding]:
    """Whether the training data are this robot's."""
    contract, found = facts.contract, facts.dataset
    assert contract is not None and found is not None
    if found.fault:
        yield error("", fault=found.fault)
    elif found.signature is not None:
        try:
            check_signature(contract, dict(found.signature), f"data set {found.path}")
        except ContractError as fault:
            yield error("", fault=str(fault))


def calibration(facts: Facts) -> Iterator[Finding]:
    """Whether the supervisor's thresholds can be read, and hold for this robot and policy."""
    found = facts.calibration
    assert found is not None
    if found.fault:
        yield error("", fault=found.fault)
    elif "not claimed" in found.claim or "NO JUDGE" in found.claim:
        yield warning(found.path, fault=found.claim, mend="calibrate this policy")


def engine(facts: Facts) -> Iterator[Finding]:
    """Whether what shall run the policy is installed, and its device there."""
    found, machine = facts.engine, facts.machine
    assert found is not None and machine is not None
    if not found.installed:
        mend = "pip install 'rewact_ros[engines]', or use torch"
        yield error(f"engine {found.name}", "an installed package", "none", mend)
    if found.device.startswith("cuda") and not machine.gpus:
        yield error(
            f"device {found.device}",
            "an NVIDIA GPU",
            "none",
            "load the driver (nvidia-smi), give the container its GPU, or set device to cpu",
        )


def room(facts: Facts) -> Iterator[Finding]:
    """Whether the policy fits the memory that is free."""
    found, machine = _found(facts), facts.machine
    assert machine is not None
    need = WORKING_COPIES * found.weights_bytes
    if need > machine.memory_free:
        yield error(
            "memory",
            f"{need / 1e9:.1f} GB free for {found.path}",
            f"{machine.memory_free / 1e9:.1f} GB",
            "end other programs",
        )


def _found(facts: Facts) -> Checkpoint:
    assert facts.checkpoint is not None
    return facts.checkpoint
