"""`rewact up`: the whole robot in one terminal, without `ros2 launch`."""

import signal
import time
from typing import Annotated

import typer

from rewact_ros.bringup import BringUp, processes
from rewact_ros.cli.runner import RobotLock, Runner, print_line

POLL_S = 0.1


def up(
    contract: Annotated[
        str, typer.Option(help="Contract file of the robot; none: simulated arm.")
    ] = "",
    policy: Annotated[str, typer.Option(help="Checkpoint folder, or none.")] = "",
    params_file: Annotated[str, typer.Option(help="ROS parameter file for all nodes.")] = "",
    namespace: Annotated[str, typer.Option(help="Prefix of all topics: one robot each.")] = "",
    use_sim_time: Annotated[bool, typer.Option(help="Follow /clock.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dry_run: Annotated[bool, typer.Option(help="Compute commands, publish none.")] = False,
    reward_only: Annotated[
        bool, typer.Option(help="The policy publishes its reward and no actions.")
    ] = False,
    success_model: Annotated[
        str, typer.Option(help="Success classifier, which the supervisor then requires as well.")
    ] = "",
    teleop: Annotated[
        str, typer.Option(help="Teleop source to start: a gamepad, or scripted_human.")
    ] = "",
    bags_dir: Annotated[
        str, typer.Option(help="Folder of recordings, one per episode; none: no recorder.")
    ] = "",
    learn: Annotated[
        str, typer.Option(help="Folder of a learning run: its newest version runs and explores.")
    ] = "",
    sim: Annotated[bool, typer.Option(help="Simulate the robot of --contract.")] = False,
    ml_python: Annotated[
        str, typer.Option(help="Interpreter of what needs PyTorch or MuJoCo.")
    ] = "",
    seed: Annotated[int, typer.Option(help="First scene of the simulated robot.")] = 300000,
    real_time_factor: Annotated[float, typer.Option(help="Speed of the simulated robot.")] = 1.0,
) -> None:
    """Start the nodes, restart what dies, stop all on Ctrl-C. Nothing moves before hil/arm."""
    args = BringUp(
        contract=contract,
        policy=policy,
        params_file=params_file,
        namespace=namespace,
        use_sim_time=use_sim_time,
        device=device,
        dry_run=dry_run,
        reward_only=reward_only,
        success_model=success_model,
        teleop=teleop,
        bags_dir=bags_dir,
        learn=learn,
        sim=sim,
        ml_python=ml_python,
        seed=seed,
        real_time_factor=real_time_factor,
    )
    stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    lock = RobotLock(namespace)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        with Runner(processes(args), print_line) as runner:
            print_line(f"up   | {len(processes(args))} processes; Ctrl-C stops them all")
            while not stopping:
                runner.poll()
                time.sleep(POLL_S)
    finally:
        lock.release()
    print_line("up   | stopped")
