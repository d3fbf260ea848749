"""The trainer: takes executed transitions and updates the agent in step with the robot.

Every random draw of an update derives from (seed, number of the update) alone, and when an update
is due depends on the transitions alone. So a run that was killed, put back to its last checkpoint
and fed the journal once more goes through the same weights bit for bit.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .agent import Agent
from .calibration import CriticCalibration
from .journal import from_record, to_record
from .learner_state import load_learner, save_learner
from .replay import Replay, Windows
from .settings import SEED_STRIDE, LearnError, RLSettings
from .shaping import shaped_reward
from .team import Order, Team
from .transitions import PROGRESS, FrameSpec, Transition


@dataclass
class Counts:
    """How far a run is.

    Attributes:
        transitions: taken, of the robot's own.
        robot_steps: executed.
        human_steps: of those, by a human.
        updates: of the critic.
        credit: updates that robot steps have earned and that are not done yet.
    """

    transitions: int = 0
    robot_steps: int = 0
    human_steps: int = 0
    updates: int = 0
    credit: float = 0.0


class Learner:
    """One trainer for every algorithm.

    Args:
        settings: of the run.
        agent: what is trained.
        spec: of the frames.
        folder: of the replay's memory-mapped arrays; None: keep them in memory.
        team: processes that learn together; None: this one alone.

    Raises:
        ReplayError: no room for the replay.
    """

    def __init__(
        self,
        settings: RLSettings,
        agent: Agent,
        spec: FrameSpec,
        folder: Path | None = None,
        team: Team | None = None,
    ) -> None:
        self.settings, self.agent, self.team = settings, agent, team or Team()
        self.online = Replay(spec, settings.online_buffer_capacity, folder and folder / "online")
        self.demos = Replay(spec, settings.offline_buffer_capacity, folder and folder / "demos")
        self.counts = Counts()
        self.calibration = CriticCalibration(settings)
        self._optimizers = _optimizers(settings, agent)
        self._device = agent.log_temperature.device

    @property
    def warmed_up(self) -> bool:
        """Whether the critic has had its updates before anybody acts by it."""
        return self.settings.warm(self.counts.updates)

    @property
    def bytes(self) -> int:
        """Size of both buffers when full."""
        return self.online.bytes + self.demos.bytes

    # -- data --------------------------------------------------------------------------------

    def add_demo(self, transition: Transition) -> None:
        """Take a transition of a demonstration; it earns no updates."""
        self._tell(Order.DEMO, transition)
        self.demos.add(transition)

    def add(self, transition: Transition) -> None:
        """Take an executed transition; a human's goes to both buffers. It earns updates."""
        self._tell(Order.OWN, transition)
        self.online.add(transition)
        if transition.human:
            self.demos.add(transition)
        counts, steps = self.counts, len(transition)
        counts.transitions += 1
        counts.robot_steps += steps
        counts.human_steps += steps * transition.human
        self.calibration.add(transition)
        learning = counts.robot_steps - self.settings.online_step_before_learning
        counts.credit += self.ratio * min(max(learning, 0), steps)  # none for the first steps

    @property
    def ratio(self) -> float:
        """Updates per robot step now: few until the critic is calibrated."""
        calibrated = self.calibration.calibrated
        return self.settings.utd_ratio if calibrated else self.settings.utd_ratio_uncalibrated

    def restore(self, demos: Iterable[Transition], own: Iterable[Transition]) -> None:
        """Fill the buffers of a new or resumed run.

        Args:
            demos: all transitions of the demonstrations.
            own: the robot's transitions up to the loaded checkpoint.

        Raises:
            LearnError: the journal is shorter than the checkpoint says.
        """
        wanted, self.counts = self.counts, Counts()
        for transition in demos:
            self.add_demo(transition)
        for transition in own:
            if self.counts.transitions == wanted.transitions:
                break
            self.add(transition)
        if self.counts.transitions < wanted.transitions:
            raise LearnError(
                f"journal: expected the checkpoint's {wanted.transitions} transitions, found "
                f"{self.counts.transitions}; copy the run again, or begin a new one"
            )
        self.counts = wanted
        self.team.tell(Order.COUNTS, json.dumps(asdict(wanted)).encode())

    def follow(self) -> None:
        """Do as the leading process tells, until it ends."""
        while True:
            order, content = self.team.hear()
            if order is Order.END:
                return
            if order is Order.COUNTS:
                self.counts = Counts(**json.loads(content))
            elif order is Order.UPDATE:
                self.update()
            elif order is Order.DEMO:
                self.add_demo(from_record(content))
            else:
                self.add(from_record(content))

    def _tell(self, order: Order, transition: Transition) -> None:
        if self.team.count > 1:
            self.team.tell(order, to_record(transition))

    # -- updates -----------------------------------------------------------------------------

    @property
    def due(self) -> int:
        """Updates that the robot's steps have earned; the learner never runs ahead of them."""
        return int(self.counts.credit) if len(self.online) else 0

    def update(self) -> dict[str, float]:
        """Do one update of the critic, and in its turn of actor and temperature.

        Returns:
            figures to log.

        Raises:
            LearnError: a loss is not finite, or the memory is used up.
        """
        settings, number = self.settings, self.counts.updates
        self.team.tell(Order.UPDATE)
        rng = np.random.default_rng([settings.seed, number])
        self.agent.train()
        try:
            with torch.random.fork_rng(devices=[]):
                # Rows are drawn alike by all processes, what happens to them is not.
                # The rank goes above all bits that seed and update use.
                torch.manual_seed(settings.seed * SEED_STRIDE + number + (self.team.rank << 40))
                batch = self.team.part(self._batch(rng))
                logs = self._step("critic", batch, self._critic_parameters())
                self.agent.update_target()
                turn = number % settings.policy_update_freq == 0
                if self._actor_has_a_teacher and self.warmed_up and turn:
                    actor = self.agent.actor
                    assert actor is not None  # it has a teacher
                    batch = self.team.part(self._actor_batch(rng))
                    logs |= self._step("actor", batch, list(actor.parameters()))
                    self.agent.average_actor(self._actor_updates)
                    batch["entropy"] = logs["entropy"]  # of this batch: no second look
                    logs |= self._step("temperature", batch, [self.agent.log_temperature])
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise LearnError(
                f"out of memory at update {number}: lower batch_size, image_size or the buffers' "
                "capacity, and resume"
            ) from error
        self.counts.updates += 1
        self.counts.credit = max(self.counts.credit - 1, 0.0)
        return logs

    @property
    def _actor_has_a_teacher(self) -> bool:
        """Whether critics, a human or its own successes tell the actor what to do.

        Where nothing does, Adam would make steps of full size of the entropy's small gradient.
        """
        told = self.settings.q_weight or self.settings.own_weight
        human = len(self.demos) and self.settings.bc_initial_weight
        return self.agent.actor is not None and bool(told or human)

    def _step(self, part: str, batch: dict[str, Any], parameters: list[Tensor]) -> dict[str, float]:
        """One optimiser step; only the part's own parameters keep a gradient."""
        optimizer = self._optimizers[part]
        losses = self.agent(batch, model=part)
        loss = losses[f"loss_{part}"]
        mean = loss.detach().clone()
        self.team.average([mean])  # of one that is not finite all learn
        if not torch.isfinite(mean):
            raise LearnError(
                f"update {self.counts.updates}: loss_{part} is {loss.item()}; nothing was "
                "changed; resume from the last checkpoint with lower learning rates"
            )
        optimizer.zero_grad(set_to_none=True)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        self.team.average(list(gradients))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, self.settings.grad_clip_norm)
        optimizer.step()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _critic_parameters(self) -> list[Tensor]:
        return [*self.agent.encoder.parameters(), *self.agent.critic.parameters()]

    def _batch(self, rng: np.random.Generator) -> dict[str, Any]:
        """Half from the robot, half from demonstrations and interventions, where there are any."""
        # RLPD's symmetric sampling (arXiv:2302.02948): the rare successes are in every batch.
        half = self.settings.batch_size // 2 if len(self.demos) else 0
        return self._drawn(rng, self.settings.batch_size - half, 0, half)

    def _actor_batch(self, rng: np.random.Generator) -> dict[str, Any]:
        """What the robot did, demonstrations, and interventions as often as is wanted."""
        settings, size = self.settings, self.settings.batch_size
        told = round(size * (1 - settings.actor_online_share)) if len(self.demos) else 0
        human = 0
        if settings.intervention_share is not None and self.online.human_steps:
            human = round(told * settings.intervention_share)
        return self._drawn(rng, size - told, human, told - human)

    def _drawn(self, rng: np.random.Generator, own: int, human: int, demos: int) -> dict[str, Any]:
        """Samples of all that the robot did, of its interventions, and of the demonstrations."""
        settings = self.settings
        shape = (settings.steps, settings.n_step, settings.discount, settings.history)
        parts = [
            buffer.sample(rng, size, *shape, horizon=settings.horizon, human=only_human)
            for buffer, size, only_human in (
                (self.online, own, False),
                (self.online, human, True),
                (self.demos, demos, False),
            )
            if size
        ]
        return _as_batch(parts, settings, self.counts.updates, self._device)

    @property
    def _actor_updates(self) -> int:
        settings = self.settings
        return (self.counts.updates - settings.critic_warmup_updates) // settings.policy_update_freq

    # -- checkpoints -------------------------------------------------------------------------

    def save(self, out: Path) -> Path:
        """Write a checkpoint below ``out`` whole or not at all; returns its folder."""
        return save_learner(out, self.settings, self.counts, self.agent, self._optimizers)

    def load(self, out: Path) -> bool:
        """Put the newest checkpoint below ``out`` back; false where there is none.

        ``restore`` must follow, to fill the buffers.

        Raises:
            LearnError: it was made with other settings, or is damaged.
        """
        found = load_learner(out, self.settings, self.agent, self._optimizers)
        if found is not None:
            self.counts = Counts(**found)
        return found is not None


def _optimizers(settings: RLSettings, agent: Agent) -> dict[str, torch.optim.Optimizer]:
    critic = [*agent.encoder.parameters(), *agent.critic.parameters()]
    optimizers: dict[str, torch.optim.Optimizer] = {
        "critic": torch.optim.Adam(critic, lr=settings.critic_lr)
    }
    if agent.actor is not None:
        temperature = [agent.log_temperature]
        optimizers["actor"] = torch.optim.Adam(agent.actor.parameters(), lr=settings.actor_lr)
        optimizers["temperature"] = torch.optim.Adam(temperature, lr=settings.temperature_lr)
    return optimizers


def _as_batch(
    parts: list[Windows], settings: RLSettings, update: int, device: torch.device
) -> dict[str, Any]:
    """Windows as the agent's entry points take them, with the shaped reward."""

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    def observed(name: str) -> dict[str, Tensor]:
        keys = getattr(parts[0], name)
        both = {key: np.concatenate([getattr(p, name)[key] for p in parts]) for key in keys}
        return {key: torch.from_numpy(value).to(device) for key, value in both.items()}

    state, next_state = observed("observation"), observed("next_observation")
    discount = joined("discount")
    progress, next_progress = (s[PROGRESS][:, -1].cpu().numpy() for s in (state, next_state))
    reward = shaped_reward(
        settings.success_reward * joined("reward"),
        discount,
        progress,
        next_progress,
        settings.shaping_weight,
    )
    action = torch.from_numpy(joined("action")).to(device)
    return {
        "state": state,
        "next_state": next_state,
        "action": action,
        "length": torch.from_numpy(joined("length")).to(device),
        "reward": torch.from_numpy(reward).float().to(device),
        "discount": torch.from_numpy(discount).to(device),
        "expert_action_sequences": action,
        "expert_mask": torch.from_numpy(joined("human_steps")).to(device),
        "own_mask": torch.from_numpy(joined("own_steps")).to(device),
        "training_step": update,
    }
