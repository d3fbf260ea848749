"""`rewact swap`: give the running policy another checkpoint, without stopping anything."""

import time
from pathlib import Path
from typing import Annotated

import typer


def swap(
    policy: Annotated[
        Path | None,
        typer.Option(help="Checkpoint folder, below the policy node's policy_dir."),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the checkpoint before this one.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="Namespace of the robot.")] = "",
    timeout: Annotated[
        float, typer.Option(min=1.0, help="How long to wait for the end of an episode, in s.")
    ] = 120.0,
) -> None:
    """Ask the running policy to take another checkpoint at the next episode boundary."""
    import rclpy

    from rewact_ros.contract.names import check_namespace
    from rewact_ros.ros.swap_client import SwapClient, update_for

    if (policy is None) == (not rollback):
        raise ValueError("give --policy with a checkpoint folder, or --rollback; one of the two")
    namespace = check_namespace("--namespace", namespace)
    update = update_for(policy, time.time_ns())
    rclpy.init()
    client = SwapClient(namespace)
    try:
        before = client.version(min(timeout, 10.0))
        if update.version and before == update.version:
            typer.echo(f"policy {before} runs already")
            return
        after = client.swap(update, timeout, typer.echo)
    finally:
        client.close()
        rclpy.try_shutdown()
    typer.echo(f"policy {before} -> {after}")
