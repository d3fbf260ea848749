"""Closed loop without ROS: a policy drives the simulated arm, timed as the robot side times it.

Seeds from 100 000 are for choosing between models, those from 200 000 for reported figures.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from rewact_ros.contract.frames import NANO
from rewact_ros.control.chunks import Chunk, ChunkQueue
from rewact_ros.policy.engine import Prediction, TorchEngine
from rewact_ros.sim.pick_place.expert import Expert, Plan
from rewact_ros.sim.pick_place.scene import ARM
from rewact_ros.sim.pick_place.simulation import CAMERAS, PickPlaceSim
from rewact_ros.sim.pick_place.truth import Truth
from rewact_ros.sim.timing import COMMAND_HZ, RATE_HZ, smooth_noise

from .settings import RolloutSettings

_TICKS_PER_STEP = COMMAND_HZ // RATE_HZ
_PUSH_S = 0.1
_PUSH_WINDOW_S = (0.5, 4.0)  # a push later than that meets a task that is done


@dataclass(frozen=True)
class Rollout:
    """One episode.

    Attributes:
        seed: of the scene.
        success: the simulation's truth at the end.
        stage, failure: as ``sim.truth`` names them.
        duration_s: until lasting success, else until the time-out.
        rewards: predicted progress at every inference, None where none is predicted.
    """

    seed: int
    success: bool
    stage: str
    failure: str
    duration_s: float
    rewards: list[float | None]


@dataclass
class Trace:
    """Everything about an episode, one entry per frame at ``RATE_HZ``.

    Attributes:
        plan: what the scripted expert would do in this scene: the pace of an undisturbed attempt.
        state: (7,) measured joints each.
        action: (7,) each: the first command sent at or after the frame.
        images: per camera, (H, W, 3) uint8 each.
        truths: the simulation's truth.
        distance_m: from the middle between the fingers' roots to the cube, about 0.08 at a grasp.
        reward: what the policy predicted, NaN where it did not.
        predictions: all that it said, None where it was not asked.
    """

    plan: Plan
    state: list[np.ndarray] = field(default_factory=list)
    action: list[np.ndarray] = field(default_factory=list)
    images: dict[str, list[np.ndarray]] = field(default_factory=lambda: {c: [] for c in CAMERAS})
    truths: list[Truth] = field(default_factory=list)
    distance_m: list[float] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    predictions: list[Prediction | None] = field(default_factory=list)

    def add(self, sim: PickPlaceSim, observation: dict, prediction: Prediction | None) -> None:
        """Append what is true and seen now; the action comes with the next command."""
        self.state.append(observation["observation.state"])
        for camera, frames in self.images.items():
            frames.append(observation[f"observation.images.{camera}"].copy())
        self.truths.append(sim.truth())
        fingers = [sim.data.body(f"{ARM}{side}_finger_link").xpos for side in ("left", "right")]
        self.distance_m.append(float(np.linalg.norm(np.mean(fingers, 0) - sim.cube_pose()[0])))
        known = prediction is not None and prediction.reward is not None
        self.reward.append(prediction.reward if known else math.nan)
        self.predictions.append(prediction)

    def commanded(self, command: np.ndarray) -> None:
        """Take a command that is sent: it is the action of the frames that have none yet."""
        while len(self.action) < len(self.state):
            self.action.append(command.astype(np.float32))


def roll_out(
    engine: TorchEngine,
    sim: PickPlaceSim,
    seed: int,
    settings: RolloutSettings | None = None,
) -> Rollout:
    """Drive one episode; arguments as for ``record_rollout``."""
    return _drive(engine, sim, seed, settings or RolloutSettings(), None)


def record_rollout(
    engine: TorchEngine,
    sim: PickPlaceSim,
    seed: int,
    settings: RolloutSettings,
) -> tuple[Rollout, Trace]:
    """Drive one episode and keep all of it.

    Args:
        engine: the policy; its history is cleared.
        sim: with both cameras at the policy's image size.
        seed: of the scene, and of the disturbances.
        settings: timing, end and disturbances.
    """
    sim.reset(seed)
    trace = Trace(Expert(sim).plan())
    return _drive(engine, sim, seed, settings, trace), trace


def _drive(
    engine: TorchEngine,
    sim: PickPlaceSim,
    seed: int,
    settings: RolloutSettings,
    trace: Trace | None,
) -> Rollout:
    sim.reset(seed)
    engine.reset()
    queue, waiting, rewards = ChunkQueue(len(sim.JOINTS), settings.combine), [], []
    disturb = _Disturbance(settings, seed)
    succeeded_at = None
    for tick in range(round(settings.limit_s * COMMAND_HZ)):
        now_ns = tick * NANO // COMMAND_HZ
        infers = tick % (_TICKS_PER_STEP * settings.replan_steps) == 0
        if infers or (trace is not None and tick % _TICKS_PER_STEP == 0):
            observation = observe(sim)
            prediction = engine.infer(observation, tick / COMMAND_HZ) if infers else None
            if trace is not None:
                trace.add(sim, observation, prediction)
            if prediction is not None:
                rewards.append(prediction.reward)
                chunk = Chunk(now_ns, 0, prediction.actions.astype(np.float64), 1 / RATE_HZ)
                waiting.append((now_ns + round(settings.latency_s * NANO), chunk))
        while waiting and waiting[0][0] <= now_ns:
            queue.add(waiting.pop(0)[1], now_ns)
        command = queue.sample(now_ns)
        if command is not None:
            command = command + disturb.noise(tick)
            sim.set_command(command)
            if trace is not None:
                trace.commanded(command)
        disturb.push(sim, tick)
        sim.advance(1 / COMMAND_HZ)
        if not sim.truth().success:
            succeeded_at = None
        elif succeeded_at is None:
            succeeded_at = tick
        elif tick - succeeded_at >= settings.hold_s * COMMAND_HZ:
            break
    if trace is not None:
        trace.commanded(sim.command)
    truth = sim.truth()
    return Rollout(
        seed, truth.success, truth.stage, truth.failure, (tick + 1) / COMMAND_HZ, rewards
    )


def observe(sim: PickPlaceSim) -> dict[str, np.ndarray]:
    """What the policy sees now: measured joints (7,) float32, images (H, W, 3) uint8."""
    images = {f"observation.images.{camera}": sim.render(camera) for camera in CAMERAS}
    return {"observation.state": sim.joint_positions().astype(np.float32), **images}


class _Disturbance:
    """Noise on the commands and a push of the cube, both drawn by the scene's seed."""

    def __init__(self, settings: RolloutSettings, seed: int) -> None:
        rng = np.random.default_rng((seed, 2))  # not the stream that draws the scene
        self._push_tick = round(rng.uniform(*_PUSH_WINDOW_S) * COMMAND_HZ)
        angle = rng.uniform(-math.pi, math.pi)
        self._force = settings.push_n * np.array([math.cos(angle), math.sin(angle), 0.0])
        frames = round(settings.limit_s * RATE_HZ) + 2
        self._noise = smooth_noise(frames, settings.action_noise_rad, rng)

    def noise(self, tick: int) -> np.ndarray:
        """(7,) rad at a command tick, linear between frames."""
        frame, step = divmod(tick, _TICKS_PER_STEP)
        here, there = self._noise[frame : frame + 2]
        return here + (there - here) * step / _TICKS_PER_STEP

    def push(self, sim: PickPlaceSim, tick: int) -> None:
        """Set the force that acts on the cube during this tick."""
        pushed = 0 <= tick - self._push_tick < _PUSH_S * COMMAND_HZ
        sim.data.body("cube").xfrc_applied[:3] = self._force if pushed else 0.0
