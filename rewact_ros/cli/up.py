"""`rewact up`: the whole robot in one terminal, without `ros2 launch`."""

import inspect
import signal
from dataclasses import fields
from typing import Annotated, Any

import typer

from rewact_ros.settings import meaning
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import processes
from rewact_ros.stack.interpreters import check_interpreters
from rewact_ros.stack.judge_warning import judge_warnings
from rewact_ros.stack.robot_lock import RobotLock
from rewact_ros.stack.runner import Runner, print_line

POLL_S = 0.1


def up(**given: str | bool) -> None:
    """Start the nodes, restart what dies, stop all on Ctrl-C. Nothing moves before hil/arm."""
    from rewact_ros.stack.live_status import LiveStatus  # needs ROS, as no other command's table

    args = BringUp.from_texts({name: str(value) for name, value in given.items()})
    stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    nodes = processes(args)
    lock = RobotLock(args.namespace)
    try:
        for line in [*check_interpreters(nodes), *judge_warnings(nodes)]:
            print_line(f"up   | {line}")
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        with LiveStatus(args.namespace) as live, Runner(nodes, live.write) as runner:
            live.write(f"up   | {len(nodes)} processes; Ctrl-C stops them all")
            while not stopping:
                runner.poll()
                live.listen(POLL_S)
    finally:
        lock.release()
    print_line("up   | stopped")


def _options() -> dict[str, inspect.Parameter]:
    """The arguments of a bring-up as options; all but flags are texts, which `BringUp` reads."""
    options = {}
    for f in fields(BringUp):
        flag = isinstance(f.default, bool)
        option: Any = typer.Option(
            help=meaning(f.metadata),
            metavar=None if flag else type(f.default).__name__.upper().replace("STR", "TEXT"),
        )
        options[f.name] = inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=f.default if flag else str(f.default),
            annotation=Annotated[bool if flag else str, option],
        )
    return options


up.__signature__ = inspect.Signature(list(_options().values()))  # type: ignore[attr-defined]
