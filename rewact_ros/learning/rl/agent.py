"""Actor, critic and temperature: what they want, and which action wins."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .act_actor import ActActor
from .base import Base
from .critics import ActionView, CriticEnsemble, ObservationEncoder, Observed, base_plan
from .decision import Decision
from .settings import LearnError, RLSettings
from .small_actor import SmallActor
from .squash import ActionMap, TanhGaussian
from .transitions import CANDIDATES


class Agent(nn.Module):
    """All that is learned; the base policy is frozen and lives outside.

    Args:
        settings: algorithm and sizes.
        base: scales, limits, and the weights that an ACT actor begins with.
    """

    def __init__(self, settings: RLSettings, base: Base) -> None:
        super().__init__()
        self.settings = settings
        corrects = settings.kind.corrects
        self.action_map = ActionMap(
            base.low, base.high, base.bounds(settings) if corrects else None
        )
        self.view = ActionView(base.action_mean, base.action_std, settings.steps)
        self.encoder = self._encoder(base)
        self.critic = CriticEnsemble(self.encoder.dim + self.view.dim, settings)
        self.target_encoder = self._encoder(base)
        self.target_critic = CriticEnsemble(self.encoder.dim + self.view.dim, settings)
        self.target_encoder.load_state_dict(self.encoder.state_dict())
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_encoder.requires_grad_(False)
        self.target_critic.requires_grad_(False)
        self.actor: nn.Module | None = None
        if settings.use_act_actor:
            self.actor = ActActor(settings, base, self.action_map)
        elif settings.has_actor:
            self.actor = SmallActor(settings, self.encoder.dim, self.view, self.action_map)
        # What acts: the actor's averaged weights, which are steadier than its newest.
        self.averaged_actor: nn.Module | None = None
        if self.actor is not None and settings.actor_ema_decay:
            # The agent's own view and map stay shared: a copy in a tuple would miss `Agent.to`.
            shared = {id(part): part for part in (self.view, self.action_map)}
            self.averaged_actor = copy.deepcopy(self.actor, shared).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(settings.temperature_init).log())
        self.target_entropy = settings.entropy_goal(self.action_map.dimensions)

    @property
    def temperature(self) -> Tensor:
        """Weight of the entropy, without a gradient."""
        return self.log_temperature.detach().exp()

    # -- training ----------------------------------------------------------------------------

    def forward(self, batch: dict[str, Any], model: str = "critic") -> dict[str, Tensor]:
        """The loss of one part, in the manner of LeRobot's policies for reinforcement learning.

        Args:
            batch: ``state`` and, for the critic, ``next_state``: observations as the replay keeps
                them, each (B, history, ...) or (B, ...); and per part

                - ``critic``: ``action`` (B, k >= steps, A) or (B, A) executed, ``reward`` (B,), and
                  either ``discount`` (B,) or ``done`` (B,) for windows of ``n_step`` steps;
                  ``length`` (B,) if a takeover cut some short.
                - ``actor``: to imitate, ``expert_action`` (B, A) of the next step or
                  ``expert_action_sequences`` (B, k, A), with ``expert_mask`` (B, k) of those that
                  count; ``training_step`` for the weight of imitation (0); ``action`` and
                  ``own_mask`` (B, k) to imitate the policy's own (``own_weight``).
                - ``temperature``: ``entropy`` of the actor if it is known; else it is asked.
            model: ``critic``, ``actor`` or ``temperature``.

        Returns:
            ``loss_<model>`` and figures to log.

        Raises:
            LearnError: no such part, or no actor in this algorithm.
        """
        losses = {
            "critic": self._critic_loss,
            "actor": self._actor_loss,
            "temperature": self._temperature_loss,
        }
        if model not in losses:
            raise LearnError(f"model: expected one of {', '.join(losses)}, got {model!r}")
        if model != "critic" and self.actor is None:
            raise LearnError(f"model {model}: {self.settings.algorithm} has a critic only")
        return losses[model](batch)

    def _critic_loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        state = _with_history(batch["state"])
        action = batch["action"]
        action = action.unsqueeze(1) if action.dim() == 2 else action[:, : self.settings.steps]
        reward = batch["reward"].reshape(-1)
        discount = batch.get("discount")
        if discount is None:
            gone = batch["done"].reshape(-1).float()
            discount = (1 - gone) * self.settings.discount**self.settings.n_step
        length = batch.get("length", torch.ones_like(reward))
        with torch.no_grad():
            target = reward + discount * self._next_value(_with_history(batch["next_state"]))
        features = self.encoder(state, augment=True)[:, -1]
        values = self.critic(features, self.view(action, base_plan(state), length))
        loss = (values - target).square().mean(1).sum()
        return {
            "loss_critic": loss,
            "q": values.detach().mean(),
            "q_spread": values.detach().std(0, correction=0).mean(),
            "target": target.mean(),
        }

    def _next_value(self, state: Observed) -> Tensor:
        """(B,) value of the best candidate, as the slow critics' pessimistic subset sees it."""
        features = self.target_encoder(state, augment=True)
        chunks, log_prob = state[CANDIDATES][:, -1], None
        if self.actor is not None and self.settings.actor_in_target:
            proposal = self._proposal(self.actor, state, features)
            unit, log_prob = proposal.sample()
            chunks = self._candidates(state, unit)
        values = self.target_critic.pessimistic(
            self._values(self.target_critic, features[:, -1], chunks, base_plan(state))
        )
        if self.settings.use_backup_entropy and log_prob is not None:
            values[:, -1] -= self.temperature * log_prob
        return values.max(1).values

    def _proposal(self, actor: nn.Module, state: Observed, features: Tensor) -> TanhGaussian:
        """The actor's distribution of the next decision (B, steps, D)."""
        return actor(state, features.detach()).first(self.settings.steps)

    def _candidates(self, state: Observed, unit: Tensor) -> Tensor:
        """What competes (B, N, steps, A): the base's chunks, and last the actor's unit actions.

        Without ``base_candidate`` the actor stands alone.
        """
        own = self.action_map.command(unit, base_plan(state)).unsqueeze(1)
        if not self.settings.base_candidate:
            return own
        return torch.cat([state[CANDIDATES][:, -1], own], 1)

    def _values(
        self, critic: CriticEnsemble, features: Tensor, chunks: Tensor, plan: Tensor
    ) -> Tensor:
        """Values (M, B, N) of whole chunks (B, N, steps, A)."""
        count = chunks.shape[1]
        plans = plan.unsqueeze(1).expand(-1, count, -1, -1)
        seen = self.view(chunks, plans, chunks.new_ones(chunks.shape[:2]))
        return critic(features.unsqueeze(1).expand(-1, count, -1), seen)

    def _actor_loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        state = _with_history(batch["state"])
        features = self.encoder(state, augment=True).detach()
        assert self.actor is not None  # `forward` refuses
        whole = self.actor(state, features)
        distribution = whole.first(self.settings.steps)
        unit, log_prob = distribution.sample()
        plan = base_plan(state)
        command = self.action_map.command(unit, plan).unsqueeze(1)
        value = self._values(self.critic, features[:, -1], command, plan).mean(0).squeeze(1)
        imitation = self._imitation(batch, whole.mode, plan)
        weight = self.settings.bc_weight(int(batch.get("training_step", 0)))
        loss = (self.temperature * log_prob - self.settings.q_weight * value).mean()
        loss = loss + weight * imitation
        own = {}
        if self.settings.own_weight and "own_mask" in batch:
            better = self._better(batch, features[:, -1], distribution.mode.detach(), plan)
            error = self._distance(batch["action"], whole.mode, plan)
            mask = batch["own_mask"] * better.unsqueeze(1)
            imitated = _mean_over(error, mask)
            loss = loss + self.settings.own_weight * imitated
            own = {"own_loss": imitated.detach(), "own_better": better.float().mean()}
        return own | {
            "loss_actor": loss,
            "entropy": -log_prob.detach().mean(),
            "actor_q": value.detach().mean(),
            "bc_loss": imitation.detach(),
            "bc_weight": torch.tensor(weight),
        }

    def _imitation(self, batch: dict[str, Any], mode: Tensor, plan: Tensor) -> Tensor:
        """Mean distance of the squashed mean from the expert's unit actions."""
        if "expert_action_sequences" in batch:
            expert = batch["expert_action_sequences"]
        elif "expert_action" in batch:
            expert = batch["expert_action"].unsqueeze(1)
        else:
            return mode.new_zeros(())
        error = self._distance(expert, mode, plan)
        mask = batch.get("expert_mask")
        return _mean_over(error, torch.ones_like(error) if mask is None else mask)

    def _distance(self, wanted: Tensor, mode: Tensor, plan: Tensor) -> Tensor:
        """(B, steps) absolute distance of the squashed mean from commands, mean over the joints.

        It is measured in the bound of a correction; in the base's standard deviation where the
        range is wider, since a tenth of a radian would be nothing beside a joint's whole range.
        Absolute, as ACT's own loss: a square hardly feels what decides a grasp.
        """
        steps = min(wanted.shape[1], mode.shape[1])
        unit = self.action_map.unit(wanted[:, :steps], plan[:, :steps])
        bound = self.action_map.bound
        scale = (bound / bound.minimum(self.view.std))[self.action_map.active]
        return ((mode[:, :steps] - unit) * scale).abs().mean(-1)

    @torch.no_grad()
    def _better(
        self, batch: dict[str, Any], features: Tensor, mode: Tensor, plan: Tensor
    ) -> Tensor:
        """(B,) whether the critics prefer what was executed to what the actor would do.

        As critic-regularised regression does (Wang et al. 2020, arXiv:2006.15134, binary).
        """
        own = self.action_map.command(mode, plan)
        executed = batch["action"][:, : own.shape[1]]
        values = self._values(self.critic, features, torch.stack([executed, own], 1), plan)
        executed, would = values.mean(0).unbind(1)
        return executed > would

    def _temperature_loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        state = _with_history(batch["state"])
        entropy = batch.get("entropy")
        if entropy is None:
            assert self.actor is not None  # `forward` refuses
            with torch.no_grad():
                proposal = self._proposal(self.actor, state, self.encoder(state))
                entropy = -proposal.sample()[1].mean()
        loss = self.log_temperature.exp() * (entropy - self.target_entropy)
        return {"loss_temperature": loss, "temperature": self.temperature}

    @torch.no_grad()
    def update_target(self) -> None:
        """Let the slow copies follow."""
        share = self.settings.critic_target_update_weight
        for slow, fast in ((self.target_encoder, self.encoder), (self.target_critic, self.critic)):
            for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                old.lerp_(new, share)

    @torch.no_grad()
    def average_actor(self, updates: int) -> None:
        """Let what acts follow the actor.

        Args:
            updates: of the actor so far; the first ones count for more, so that it is no memory of
                how the actor began.
        """
        if self.actor is None or self.averaged_actor is None:
            return
        # As TensorFlow's ExponentialMovingAverage does with `num_updates`.
        decay = min(self.settings.actor_ema_decay, (1 + updates) / (10 + updates))
        for old, new in zip(self.averaged_actor.parameters(), self.actor.parameters(), strict=True):
            old.lerp_(new, 1 - decay)
        for kept, seen in zip(self.averaged_actor.buffers(), self.actor.buffers(), strict=True):
            kept.copy_(seen)

    # -- acting ------------------------------------------------------------------------------

    @property
    def _acting(self) -> nn.Module | None:
        return self.actor if self.averaged_actor is None else self.averaged_actor

    @torch.no_grad()
    def propose(self, observation: Observed) -> TanhGaussian:
        """What the actor would do (1, horizon, D) after an observation with a batch of one.

        Raises:
            LearnError: no actor in this algorithm.
        """
        actor = self._acting
        if actor is None:
            raise LearnError(f"propose: {self.settings.algorithm} has a critic only")
        self.eval()
        # An ACT actor sees by itself, and it is asked at every robot step.
        features = None if self.settings.use_act_actor else self.encoder(observation)
        return actor(observation, features)

    @torch.no_grad()
    def decide(
        self,
        observation: Observed,
        generator: torch.Generator,
        explore: float,
        base_only: bool,
        proposal: TanhGaussian | None = None,
    ) -> Decision:
        """Choose a chunk, and how fast it is executed.

        The base's plan leads, or the actor's chunk (``actor_leads``), at the pace that was
        demonstrated. Another candidate beats it if its advantage, averaged over the ensemble,
        exceeds ``advantage_gate`` standard deviations of the ensemble's opinions.

        Args:
            observation: of the replay, with a batch of one: (1, history, ...).
            generator: of exploration.
            explore: share of the exploration: of the actor's own spread, and of drawing a candidate
                whatever the critics say. 0: none.
            base_only: the base acts; the critics only say what they expect of it.
            proposal: of the actor at each speed, (speeds, steps, D); None: it is asked.
        """
        self.eval()
        settings = self.settings
        features = self.encoder(observation)
        plan = base_plan(observation)
        shape = (1, settings.steps, self.action_map.dimensions)
        noise = explore * torch.randn(shape, generator=generator).to(plan)
        curious = torch.rand((), generator=generator).item() < explore * settings.exploration
        pick = torch.rand((), generator=generator).item()
        chunks = observation[CANDIDATES][:, -1]
        own = chunks.shape[1]  # where the actor's begin
        contenders = range(1 if base_only else own)
        leads = 0
        if self._acting is not None and not base_only:
            if proposal is None:
                proposal = self._proposal(self._acting, observation, features)
            unit = proposal.sample(noise)[0] if explore else proposal.mode
            chunks = torch.cat([chunks, self.action_map.command(unit, plan).unsqueeze(0)], 1)
            contenders = range(0 if settings.base_candidate else own, chunks.shape[1])
            leads = own if settings.actor_leads else contenders[0]
        values = self._values(self.critic, features[:, -1], chunks, plan)[:, 0]  # (M, N)
        index = leads
        others = [other for other in contenders if other != leads]
        if others and curious:
            index = others[int(pick * len(others))]
        elif others:
            advantage = values[:, others] - values[:, leads : leads + 1]
            score = advantage.mean(0) - settings.advantage_gate * advantage.std(0, correction=0)
            if score.max() > 0:
                index = others[int(score.argmax())]
        paced = len(settings.speeds)
        choice = "actor" if index >= own else "base" if index < paced else "sample"
        pace = index - own if index >= own else index
        speed = settings.speeds[pace] if choice != "sample" else 1.0
        return Decision(chunks[0, index].cpu(), float(values[:, index].mean()), choice, speed)

    def _encoder(self, base: Base) -> ObservationEncoder:
        return ObservationEncoder(self.settings, len(base.cameras), base.state_mean, base.state_std)


def _mean_over(error: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, k) where a mask (B, >= k) says so; 0 where nothing counts."""
    mask = mask[:, : error.shape[1]].to(error)
    return (error * mask).sum() / mask.sum().clamp_min(1)


def _with_history(observation: Observed) -> Observed:
    """Add the axis of a history of one where it is missing."""
    if observation[CANDIDATES].dim() == 5:  # (B, history, N, steps, A)
        return observation
    return {name: value.unsqueeze(1) for name, value in observation.items()}
