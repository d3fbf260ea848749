"""A learned policy on the robot: the base's engine with the agent in front of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.checkpoint_files import CheckpointFiles
from rewact_ros.policy.engine import Engine, Prediction
from rewact_ros.policy.engine import Observation as RawObservation
from rewact_ros.policy.policy import Estimate

from .agent import Agent
from .base import Base
from .decision import Decision
from .driver import Driver
from .transitions import Observation
from .updates import open_update, updates_seen


@dataclass(frozen=True, kw_only=True)
class DecidedPrediction(Prediction):
    """A prediction whose actions an agent decided, and what the learner needs to know of it.

    Attributes:
        observation: as the replay keeps it.
        decision: in force.
    """

    observation: Observation
    decision: Decision


class LearnedEngine(Engine):
    """Decides as the fast path does; the reward and the features are the base's.

    Row k of a chunk belongs to stamp + k * dt: row 0 is what was decided before, then come the
    decided commands, then the base's plan. A newer chunk must replace an older one, else what was
    decided is mixed with what was not.

    Args:
        base: the frozen policy.
        agent: who decides.
        updates: that the agent has seen; before ``critic_warmup_updates`` the base acts.
        explore: explore as far as is left after so many updates.
        engine: what runs the base.
    """

    def __init__(
        self,
        base: Base,
        agent: Agent,
        updates: int,
        explore: bool,
        engine: Engine,
    ) -> None:
        super().__init__(base.loaded, base.contract.rate_hz)
        self._runs = engine
        self._driver = Driver(agent.settings, base, agent, self._runs)
        self._updates = updates
        self._explore = agent.settings.exploring(updates) if explore else 0.0
        self._base_only = not agent.settings.warm(updates)
        self._stamp_s = float("-inf")
        self._driver.begin(updates)

    @property
    def description(self) -> str:
        """What runs."""
        who = "base" if self._base_only else self._driver.settings.algorithm
        explores = ", explores" if self._explore else ""
        return f"{who} after {self._updates} updates{explores}; {self._runs.description}"

    def reset(self) -> None:
        """Forget plans and past observations: somebody else moved the robot."""
        self._driver.release()
        self._stamp_s = float("-inf")

    def remember(self, observation: RawObservation, stamp_s: float) -> None:
        """Take an observation for the base's past; see ``Engine.remember``."""
        self._runs.remember(observation, stamp_s)

    def warm_up(self, runs: int = 3) -> None:
        """Run on zeros; the draws of exploration begin anew afterwards."""
        self._runs.warm_up(runs)
        super().warm_up(runs)
        self._driver.begin(self._updates)

    def infer(self, observation: RawObservation, stamp_s: float | None = None) -> DecidedPrediction:
        """Predict and decide; arguments and errors as of ``Engine.infer``.

        Raises:
            ValueError: no time.
        """
        if stamp_s is None:
            raise ValueError("stamp_s: expected the observation's time for a decision, got None")
        if stamp_s <= self._stamp_s:
            self.reset()
        self._stamp_s = stamp_s
        seen = self._driver.observe(observation, stamp_s)
        decision = self._driver.act(self._explore, self._base_only)
        base = seen.prediction
        return DecidedPrediction(
            actions=self._chunk(decision, base.actions),
            reward=base.reward,
            quantiles=base.quantiles,
            entropy=base.entropy,
            features=base.features,
            observation=seen.observation,
            decision=decision,
        )

    def _chunk(self, decision: Decision, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """(chunk, A) float32 of what was decided before, is decided now, and planned after it."""
        before = actions[0] if decision.before is None else decision.before
        plan = self._driver.plan(len(actions) - 1, decision.speed)  # goes on where it ends
        targets = decision.targets
        rows = [before[None], targets, plan[len(targets) :]]
        return np.concatenate(rows).astype(np.float32)

    def _predict(self, past: list[RawObservation]) -> Estimate:
        return self._runs._predict(past)


def open_learned(
    source: Path | CheckpointFiles,
    contract: Contract,
    device: str,
    explore: bool,
    make_engine: Callable[[LoadedPolicy], Engine],
) -> tuple[LoadedPolicy, LearnedEngine]:
    """Open what ``write_update`` wrote, to run on the robot.

    Args:
        source: folder of a version, or its files, already read.
        contract: of the robot.
        device: as for ``load_policy``.
        explore: as for ``LearnedEngine``.
        make_engine: of the base.

    Returns:
        the base under the learned version's name and folder, and the engine.

    Raises:
        LearnError, CheckpointError, ContractError: as ``open_update``.
    """
    files = CheckpointFiles.of(source)
    base, agent = open_update(files, contract, device)
    engine = LearnedEngine(base, agent, updates_seen(files), explore, make_engine(base.loaded))
    named = replace(base.loaded, version=files.version, sha256=files.sha256, path=files.path)
    return named, engine
