#!/usr/bin/env python3
"""Run one task on the simulated arm: `.venv/bin/python examples/commander.py`.

For a robot that runs already (`rewact up`), leave out the arguments: `Commander()`.
"""

import argparse

from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.commander import Commander


def main() -> None:
    """Start the robot, run the task, print what came of it; `with` disarms and stops everything."""
    options = argparse.ArgumentParser()
    options.add_argument("--task", default="put the cube into the tray")
    options.add_argument("--timeout-s", type=float, default=30.0)
    given = options.parse_args()
    with Commander(BringUp(sim=True), write=print) as robot:
        robot.arm()
        task = robot.start(given.task, given.timeout_s)
        while task.running:
            robot.pause(0.5)
            reward = robot.reward()
            print("no current reward" if reward is None else f"reward {reward:.2f}")
        result = task.result()
    print(f"{result.outcome.name.lower()}: {result.reason}")
    print(f"{result.duration_s:.1f} s, final reward {result.reward}, peak {result.peak_reward}")


if __name__ == "__main__":
    main()
