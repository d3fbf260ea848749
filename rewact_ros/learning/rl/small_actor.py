"""The small actor: a network that corrects the base, or that gives commands of its own."""

import torch
from torch import Tensor, nn

from .critics import ActionView, Observed, base_plan
from .settings import RLSettings
from .squash import ActionMap, TanhGaussian, bounded_log_std
from .transitions import PROGRESS


class SmallActor(nn.Module):
    """Two hidden layers on the critic's features, the base's plan and its progress.

    Its mean begins exactly as the base's plan: the last layer starts at zero and is added to what
    the tanh makes the plan of (for a correction that is zero itself).

    Args:
        settings: width and bounds.
        features: width of the features of one observation.
        view: how it sees the plan.
        action_map: what its unit actions mean.
    """

    def __init__(
        self, settings: RLSettings, features: int, view: ActionView, action_map: ActionMap
    ) -> None:
        super().__init__()
        self._view, self._map = (view,), (action_map,)  # in tuples: they are the agent's
        self._limits = settings.log_std_min, settings.log_std_max
        self._shape = settings.steps, action_map.dimensions
        hidden = settings.hidden_dim
        inputs = settings.history * features + view.plan_dim + 1
        self.body = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(hidden, 2 * settings.steps * action_map.dimensions)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, observation: Observed, features: Tensor) -> TanhGaussian:
        """Distribution of unit actions (B, steps, D).

        Args:
            observation: of the replay, for the plan (B, history, N, steps, A) and the progress.
            features: (B, history, F) of the critic's encoder.
        """
        plan = base_plan(observation)
        progress = observation[PROGRESS][:, -1:]
        seen = torch.cat([features.flatten(1), self._view[0].plan(plan), progress], -1)
        mean, log_std = self.head(self.body(seen)).unflatten(-1, (2, *self._shape)).unbind(1)
        mean = mean + self._map[0].before_tanh(plan, plan)
        return TanhGaussian(mean, bounded_log_std(log_std, *self._limits))
