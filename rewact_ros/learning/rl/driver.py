"""Base policy and agent at work: raw observations in, commands out, one robot step at a time."""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewact_ros.contract.frames import NANO
from rewact_ros.control.chunks import Chunk, ChunkQueue
from rewact_ros.policy import RewACTConfig
from rewact_ros.policy.engine import Engine, Prediction, TorchEngine
from rewact_ros.policy.images import resize_frames, unit_images
from rewact_ros.supervision.signals import PolicySample

from .agent import Agent
from .base import Base
from .critics import base_plan
from .decision import Decision
from .settings import SEED_STRIDE, RLSettings
from .squash import TanhGaussian
from .transitions import CANDIDATES, IMAGES, PROGRESS, STATE, Observation


@dataclass(frozen=True)
class Seen:
    """One observation.

    Attributes:
        observation: as the replay keeps it.
        sample: as the monitor judges it.
        prediction: of the base.
    """

    observation: Observation
    sample: PolicySample
    prediction: Prediction


class Driver:
    """Sees and acts for an episode after another.

    The base's plan for the next steps is what the robot side would make of its chunks: the
    overlapping ones are ensembled over time. So are an actor's, which it is asked for at every
    step: one chunk alone follows the noise of one observation. Chunks are laid on a clock of the
    task, which runs at the speed of what is executed, so that older ones still say what is due.

    Args:
        settings: of the run.
        base: the frozen policy.
        agent: who decides; None: nobody, only observations are wanted.
        engine: what runs the base; None: torch.
    """

    def __init__(
        self, settings: RLSettings, base: Base, agent: Agent | None, engine: Engine | None = None
    ) -> None:
        self.settings, self.base, self._agent = settings, base, agent
        rate_hz = base.contract.rate_hz
        self._engine = engine or TorchEngine(base.loaded, threads=None, rate_hz=rate_hz)
        bounds = base.bounds(settings).numpy()
        scale = np.where(bounds > 0, base.action_std.numpy(), 0.0)
        make, count = settings.kind.candidates, settings.candidates - len(settings.speeds) + 1
        self._candidates = make and make(base.loaded, count, settings.candidate_noise, scale)
        self._generator = torch.Generator()
        self.begin(0)

    def begin(self, number: int) -> None:
        """A new episode; its draws derive from the run's seed and its number alone."""
        seed = self.settings.seed
        self._rng = np.random.default_rng([seed, number])
        self._generator.manual_seed(seed * SEED_STRIDE + number)
        self.release()

    def release(self) -> None:
        """Forget plans and past: somebody else moved the robot."""
        self._engine.reset()
        # The task's clock runs ahead at speed: a chunk is as old in it as that is fast.
        max_age_s = self.base.contract.max_chunk_age_s * max(self.settings.speeds)
        self._queue, self._actor_queue = (
            ChunkQueue(
                len(self.base.action_mean), max_age_s=max_age_s, poses=self.base.contract.poses
            )
            for _ in range(2)
        )
        self._past: deque[Observation] = deque(maxlen=self.settings.history)
        self._decision: Decision | None = None  # in force
        self._time_s = self._decided_s = float("-inf")
        self._task_s, self._speed = 0.0, 1.0

    def observe(self, raw: dict[str, NDArray[Any]], time_s: float) -> Seen:
        """Take an observation.

        Args:
            raw: as the policy takes it: state (S,) float32, cameras (H, W, 3) uint8.
            time_s: later than that of the last one.
        """
        prediction = self._engine.infer(raw, time_s)
        if self._past:
            self._task_s += (time_s - self._time_s) * self._speed
        self._time_s, self._speed = time_s, 1.0  # a human, or nobody, keeps the usual pace
        self._actions = prediction.actions.astype(np.float64)
        self._add(self._queue, self._actions)
        plan = self.plan(self.settings.steps)
        around = self._around(plan, raw)
        faster = [self.plan(self.settings.steps, speed)[None] for speed in self.settings.speeds[1:]]
        observation = {
            STATE: raw[STATE].astype(np.float32),
            CANDIDATES: np.concatenate([around[:1], *faster, around[1:]]).astype(np.float32),
            PROGRESS: np.asarray(prediction.reward, np.float32),
        }
        if self.base.cameras:
            images = [_resized(raw[camera], self.base.image_size) for camera in self.base.cameras]
            observation[IMAGES] = np.stack(images)
        self._past.append(observation)
        quantiles = prediction.quantiles
        sample = PolicySample(
            time_s,
            prediction.reward,
            quantiles[0] if quantiles else None,
            prediction.entropy,
            prediction.features,
        )
        return Seen(observation, sample, prediction)

    def act(self, explore: float, base_only: bool) -> Decision:
        """What is in force for the step that begins with the last observation.

        Args:
            explore, base_only: as for ``Agent.decide``.

        Raises:
            RuntimeError: no agent, or no observation yet.
        """
        if self._agent is None or not self._past:
            raise RuntimeError("the driver has no agent or has seen nothing: it cannot act")
        held, step, before = self._decision, self._step(), None
        if held is not None and step > 0:
            before = held.chunk[min(step, len(held.chunk)) - 1].numpy().astype(np.float64)
        due = held is None or step >= len(held.chunk)
        seen = self._tensors() if due or self._ensembles else {}
        asked = self._ensembles and not base_only
        ahead = self._ask_actor(seen) if asked else None
        if held is None or due:
            proposal = None if ahead is None else self._ensembled(*ahead)
            decision = self._agent.decide(seen, self._generator, explore, base_only, proposal)
            self._decision, self._decided_s = decision, self._time_s
            decision = replace(decision, before=before)
        else:
            nan = float("nan")
            decision = replace(held, step=step, before=before, value=nan, decided=False)
        self._speed = decision.speed
        return decision

    def plan(self, steps: int, speed: float = 1.0) -> NDArray[np.float64]:
        """(steps, A): the base's commands at the end of each of the next steps.

        Args:
            steps: beyond the end of the base's chunk its last command stays.
            speed: of their execution.
        """
        return self._due(self._queue, self._actions[1:], steps, speed)

    @property
    def _ensembles(self) -> bool:
        return self.settings.horizon > self.settings.steps

    def _ask_actor(self, seen: dict[str, Tensor]) -> tuple[TanhGaussian, NDArray[np.float64]]:
        """The actor's whole chunk, which joins the others, and its commands (horizon, A)."""
        assert self._agent is not None
        whole, to_unit = self._agent.propose(seen), self._agent.action_map
        ahead = to_unit.command(whole.mode, base_plan(seen))[0].cpu().numpy().astype(np.float64)
        # A chunk's first row is due with the observation; the actor's first, a step later.
        self._add(self._actor_queue, np.concatenate([ahead[:1], ahead]))
        return whole, ahead

    def _ensembled(self, whole: TanhGaussian, ahead: NDArray[np.float64]) -> TanhGaussian:
        """What the actor would do next at each speed, its overlapping chunks ensembled."""
        assert self._agent is not None
        to_unit = self._agent.action_map
        steps, speeds = self.settings.steps, self.settings.speeds
        own = [self._due(self._actor_queue, ahead, steps, speed) for speed in speeds]
        commands = torch.from_numpy(np.stack(own)).to(whole.mean)
        log_std = whole.log_std[:, :steps].expand(len(speeds), -1, -1)
        return TanhGaussian(to_unit.before_tanh(commands, commands), log_std)

    def _add(self, queue: ChunkQueue, actions: NDArray[np.float64]) -> None:
        now_ns = round(self._task_s * NANO)
        queue.add(Chunk(now_ns, 0, actions, self.base.contract.dt_s), now_ns)

    def _due(
        self, queue: ChunkQueue, newest: NDArray[np.float64], steps: int, speed: float
    ) -> NDArray[np.float64]:
        """(steps, A) of a queue at the end of each next step, at a speed.

        Args:
            newest: commands at the end of each next step at speed 1, for what the queue lacks.
        """
        now_ns, step_ns = round(self._task_s * NANO), self.base.contract.dt_s * NANO
        ahead = speed * np.arange(1, steps + 1)
        due = [queue.sample(now_ns + round(k * step_ns)) for k in ahead]
        rows = np.clip(ahead.round().astype(int) - 1, 0, len(newest) - 1)
        return np.stack([newest[r] if d is None else d for r, d in zip(rows, due, strict=True)])

    def _step(self) -> int:
        """Step of the decision in force that begins now; an observation may have been missed."""
        if self._decision is None:
            return 0
        return round((self._time_s - self._decided_s) / self.base.contract.dt_s)

    def _tensors(self) -> dict[str, Tensor]:
        """The newest observations (1, history, ...); the first stands in for those before it."""
        missing = self.settings.history - len(self._past)
        past = [self._past[0]] * missing + list(self._past)
        assert self._agent is not None  # who acts asks
        device = self._agent.log_temperature.device
        return {
            name: torch.from_numpy(np.stack([p[name] for p in past]))[None].to(device)
            for name in past[0]
        }

    def _around(
        self, plan: NDArray[np.float64], raw: dict[str, NDArray[Any]]
    ) -> NDArray[np.float32]:
        """The base's plan and, of an algorithm that draws them, other chunks (N, steps, A)."""
        if self._candidates is None:
            return plan[None].astype(np.float32)
        config = self.base.loaded.config
        has_latent = isinstance(config, RewACTConfig) and config.use_vae
        batch = self._batch(raw) if has_latent else None
        return self._candidates.around(plan, batch, self._rng)

    def _batch(self, raw: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
        batch = {STATE: torch.from_numpy(raw[STATE].astype(np.float32))[None]}
        for camera in self.base.cameras:
            image = torch.from_numpy(np.ascontiguousarray(raw[camera]))
            batch[camera] = unit_images(image)[None]
        return batch


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 to (height, width, 3) uint8."""
    if image.shape[:2] == size:
        return image.copy()
    return resize_frames(np.ascontiguousarray(image)[None], size)[0]
