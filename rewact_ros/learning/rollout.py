"""Closed loop without ROS: a policy drives the simulated arm, timed as the robot side times it.

Seeds from 100 000 are for choosing between models, those from 200 000 for reported figures.
"""

from dataclasses import dataclass

import numpy as np

from rewact_ros.contract.frames import NANO
from rewact_ros.control.chunks import Chunk, ChunkQueue
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.sim.pick_place import CAMERAS, PickPlaceSim

RATE_HZ, COMMAND_HZ = 20, 100


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
