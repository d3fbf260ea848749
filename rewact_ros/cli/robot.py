"""Commands to a robot that runs: one file, for each is one call. They load little but rclpy."""

import json
from typing import Annotated, Literal

import typer

Namespace = Annotated[str, typer.Option(help="Namespace of the robot, as `rewact up` has it.")]
Timeout = Annotated[
    float, typer.Option(min=0.1, max=600.0, help="How long to wait for an answer, in s.")
]


def arm(namespace: Namespace = "", timeout: Timeout = 5.0) -> None:
    """Let hil hold the arm where it is, ready to move; hil says why not."""
    _call("hil/arm", namespace, timeout)


def disarm(namespace: Namespace = "", timeout: Timeout = 5.0) -> None:
    """Brake, then send no command any more."""
    _call("hil/disarm", namespace, timeout)


def resume(namespace: Namespace = "", timeout: Timeout = 5.0) -> None:
    """Allow motion again after a watchdog stopped it, or after a person let go."""
    _call("hil/resume", namespace, timeout)


def take_over(namespace: Namespace = "", timeout: Timeout = 5.0) -> None:
    """Give the arm to the teleop source that sends; without one the policy is stopped."""
    _call("hil/take_over", namespace, timeout)


def release(namespace: Namespace = "", timeout: Timeout = 5.0) -> None:
    """End a person's turn: the policy goes on, or the arm holds until `rewact resume`."""
    _call("hil/release", namespace, timeout)


def clear_fault(namespace: Namespace = "", timeout: Timeout = 5.0) -> None:
    """Leave FAULT for DISARMED, once what caused it is mended."""
    _call("hil/clear_fault", namespace, timeout)


def confirm_reset(namespace: Namespace = "", timeout: Timeout = 5.0) -> None:
    """Let the reset motion that is asked for begin, this once; look at the workspace first."""
    _call("hil/confirm_reset", namespace, timeout)


def verdict(
    outcome: Annotated[
        Literal["success", "failure"], typer.Argument(help="How the episode that runs ended.")
    ],
    namespace: Namespace = "",
    timeout: Timeout = 5.0,
) -> None:
    """Judge the episode that runs, which ends it."""
    _call(f"supervisor/{outcome}", namespace, timeout)


def task(
    text: Annotated[str, typer.Argument(help="What to do, in words.")],
    run_time: Annotated[
        float,
        typer.Option(min=0.0, help="Longest running time, in s; 0: the supervisor's default."),
    ] = 0.0,
    episodes: Annotated[int, typer.Option(min=1, help="How many in a row.")] = 1,
    preempt: Annotated[
        bool, typer.Option("--preempt", help="End a task that runs instead of being refused.")
    ] = False,
    namespace: Namespace = "",
    timeout: Timeout = 5.0,
) -> None:
    """Run a task to its verdict; Ctrl-C cancels it. Exit code 0 is a success, 1 another end."""
    from rewact_ros.action import ExecuteTask
    from rewact_ros.stack.client import RobotClient
    from rewact_ros.stack.task_words import outcome_line, phase_line

    goal = ExecuteTask.Goal(task=text, timeout=run_time, episodes=episodes, preempt=preempt)
    phase = ""

    def tell(feedback: ExecuteTask.Feedback) -> None:
        nonlocal phase
        if feedback.phase != phase:
            phase = feedback.phase
            typer.echo(phase_line(feedback))

    with RobotClient(namespace, timeout) as client:
        try:
            result = client.run_task(goal, tell)
        except KeyboardInterrupt:
            typer.echo("cancelled; the arm holds")
            raise
    typer.echo(outcome_line(result))
    if result.outcome != ExecuteTask.Result.SUCCESS:
        raise typer.Exit(1)


def status(
    namespace: Namespace = "",
    timeout: Timeout = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show mode, streams against the contract, policy, supervisor, reward, verdict and task."""
    from rewact_ros.stack.client import RobotClient
    from rewact_ros.stack.robot_status import read_status

    with RobotClient(namespace, timeout) as client:
        now = read_status(client, timeout)
    typer.echo(json.dumps(now.record(), indent=2) if as_json else "\n".join(now.lines()))


def _call(service: str, namespace: str, timeout_s: float) -> None:
    from rewact_ros.stack.client import RobotClient

    with RobotClient(namespace, timeout_s) as client:
        typer.echo(client.call(service))
