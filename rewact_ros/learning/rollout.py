"""Closed loop without ROS: a policy drives the simulated arm, timed as the robot side times it.

``python -m rewact_ros.learning.rollout --policy models/vx300s_pick_place --episodes 50``. Seeds
from 100 000 are for choosing between models; those from 200 000 are kept for reported figures.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rewact_ros.control.chunks import NANO, Chunk, ChunkQueue
from rewact_ros.policy.checkpoint import CheckpointError, load_policy
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.sim.pick_place import CAMERAS, PickPlaceSim

RATE_HZ, COMMAND_HZ = 20, 100
VALIDATION_SEED, REPORT_SEED = 100_000, 200_000


@dataclass(frozen=True)
class Rollout:
    """One episode.

    Attributes:
        seed: of the scene.
        success: the simulation's truth at the end.
        stage, failure: as ``sim.truth`` names them.
        duration_s: until lasting success, else until the time-out.
        rewards: predicted progress at every observation.
    """

    seed: int
    success: bool
    stage: str
    failure: str
    duration_s: float
    rewards: list[float]


def roll_out(
    engine: TorchEngine,
    sim: PickPlaceSim,
    seed: int,
    replan_steps: int = 1,
    combine: str = "ensemble",
    latency_s: float = 0.02,
    limit_s: float = 20.0,
    dwell_s: float = 0.5,
) -> Rollout:
    """Drive one episode.

    Args:
        engine: the policy.
        sim: with both cameras at the policy's image size.
        seed: of the scene.
        replan_steps: observations from one inference to the next.
        combine: as ``ChunkQueue``.
        latency_s: from the observation until its chunk may act.
        limit_s: time-out.
        dwell_s: how long success must last before the episode ends.
    """
    sim.reset(seed)
    queue = ChunkQueue(len(sim.JOINTS), combine)
    ticks_per_step, waiting, rewards = COMMAND_HZ // RATE_HZ, [], []
    succeeded_at = None
    for tick in range(round(limit_s * COMMAND_HZ)):
        now_ns = tick * NANO // COMMAND_HZ
        if tick % (ticks_per_step * replan_steps) == 0:
            prediction = engine.infer(
                {"observation.state": sim.joint_positions().astype(np.float32)}
                | {f"observation.images.{camera}": sim.render(camera) for camera in CAMERAS}
            )
            rewards.append(prediction.reward)
            chunk = Chunk(now_ns, 0, prediction.actions.astype(np.float64), 1 / RATE_HZ)
            waiting.append((now_ns + round(latency_s * NANO), chunk))
        while waiting and waiting[0][0] <= now_ns:
            queue.add(waiting.pop(0)[1], now_ns)
        command = queue.sample(now_ns)
        if command is not None:
            sim.set_command(command)
        sim.advance(1 / COMMAND_HZ)
        if not sim.truth().success:
            succeeded_at = None
        elif succeeded_at is None:
            succeeded_at = tick
        elif tick - succeeded_at >= dwell_s * COMMAND_HZ:
            break
    truth = sim.truth()
    return Rollout(
        seed, truth.success, truth.stage, truth.failure, (tick + 1) / COMMAND_HZ, rewards
    )


def wilson_interval(successes: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    share, scale = successes / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def main() -> None:
    """Roll out over consecutive seeds and print successes with their interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=VALIDATION_SEED)
    parser.add_argument("--replan-steps", type=int, default=1)
    parser.add_argument("--combine", choices=("replace", "ensemble"), default="ensemble")
    parser.add_argument("--latency-s", type=float, default=0.02)
    parser.add_argument("--json", type=Path, help="write every episode here")
    arguments = parser.parse_args()
    try:
        loaded = load_policy(arguments.policy, device="cpu")
    except CheckpointError as error:
        parser.error(str(error))
    engine = TorchEngine(loaded)
    height, width = next(iter(loaded.config.image_features.values())).shape[1:]
    sim, results = PickPlaceSim(width, height), []
    try:
        bar = tqdm(
            range(arguments.seed, arguments.seed + arguments.episodes),
            unit="episode",
            mininterval=1,
        )
        for seed in bar:
            result = roll_out(
                engine, sim, seed, arguments.replan_steps, arguments.combine, arguments.latency_s
            )
            results.append(result)
            if not result.success:
                bar.write(
                    f"seed {seed}: {result.stage} {result.failure} "
                    f"peak reward {max(result.rewards):.2f}"
                )
            bar.set_postfix(success=f"{sum(r.success for r in results)}/{len(results)}")
    finally:
        sim.close()
    successes = sum(r.success for r in results)
    low, high = wilson_interval(successes, len(results))
    print(f"success {successes}/{len(results)}, 95 % interval {low:.2f} to {high:.2f} (Wilson)")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in results]))


if __name__ == "__main__":
    main()
