"""Success rate of the expert on unseen seeds: `python -m rewact_ros.episodes.expert_check`."""

from __future__ import annotations

import argparse
import time

from tqdm import tqdm

from rewact_ros.episodes.demonstration import demonstrate
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.sim.task import DEFAULT_TASK, find_task, task_names


def main() -> None:
    """Print successes, Wilson interval, durations and speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="number of seeds")
    parser.add_argument("--first", type=int, default=200_000, help="first seed")
    parser.add_argument("--noise", type=float, default=0.0, help="arm noise in rad")
    parser.add_argument("--retries", type=int, default=0, help="further attempts after a failure")
    parser.add_argument("--fault", default=None, help="of the task, that the expert makes")
    parser.add_argument("--task", default=DEFAULT_TASK, help=", ".join(task_names()))
    arguments = parser.parse_args()
    sim = find_task(arguments.task)(96, 96)
    failed, times, frames, begin_s = [], [], 0, time.perf_counter()
    for seed in tqdm(
        range(arguments.first, arguments.first + arguments.seeds), leave=False, mininterval=1.0
    ):
        episode = demonstrate(
            sim, seed, arguments.fault, noise_rad=arguments.noise, retries=arguments.retries
        )
        frames += len(episode.action)
        if episode.truth.success:
            times.append(episode.truth.success_time_s)
        else:
            failed.append((seed, episode.truth.failure or episode.truth.stage))
    took_s = time.perf_counter() - begin_s
    good, count = arguments.seeds - len(failed), arguments.seeds
    low, high = wilson_interval(good, count)
    print(f"expert: {good}/{count} successes, Wilson 95 % [{low:.3f}, {high:.3f}]")
    if times:
        print(f"time to success: {min(times):.2f} to {max(times):.2f} s")
    print(
        f"mean episode {frames / count / sim.rate_hz:.2f} s; "
        f"{frames / took_s:.0f} frames/s, no cameras"
    )
    for seed, why in failed[:20]:
        print(f"  seed {seed}: {why}")


if __name__ == "__main__":
    main()
