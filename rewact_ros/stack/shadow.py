"""Whether a shadow policy can run beside the policy, asked before anything starts.

What is found out here is refused. What its process finds out later ends that process alone.
"""

from pathlib import Path

from rewact_ros.checks.facts import Facts
from rewact_ros.checks.policy import fits
from rewact_ros.contract import load_contract
from rewact_ros.policy.checkpoint_facts import checkpoint_facts
from rewact_ros.runs import is_version
from rewact_ros.stack.arguments import ArgumentError, BringUp


def check_shadow(args: BringUp, contract: str, acts: bool) -> None:
    """Refuse a shadow policy that nobody compares or that was made for another robot.

    Args:
        args: of the bring-up.
        contract: its contract file.
        acts: whether a policy runs that it could be compared with.

    Raises:
        ArgumentError: no policy, no recorder, or its checkpoint is damaged or does not fit.
        ContractError: the contract cannot be read.
    """
    if not acts:
        raise ArgumentError("shadow: expected a policy that it predicts beside, got none")
    if not args.bags_dir:
        raise ArgumentError(
            "shadow: expected bags_dir too, got none: what it predicts is compared in recordings"
        )
    folder = Path(args.shadow).resolve()
    if is_version(folder):
        return  # its base is inside, in a form that takes PyTorch to read
    found = checkpoint_facts(folder, statistics=False)
    if found.fault:
        raise ArgumentError(f"shadow: {found.fault}")
    facts = Facts(contract=load_contract(contract, args.namespace or "/"), checkpoint=found)
    for finding in fits(facts):
        raise ArgumentError(f"shadow: {finding.text}")
