"""How well an agent acts on unseen scenes, alone, by the simulation's truth."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from rewact_ros.contract import load_contract
from rewact_ros.episodes.rollout_dataset import simulation
from rewact_ros.learning.evaluation.calibrate import signal_settings
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.checkpoint_files import open_folder

from .agent import Agent
from .algorithms import CRITICS_ONLY
from .base import open_base
from .decision import Decision
from .driver import Driver
from .environment import Acting, EpisodeResult, SimEpisode
from .run_settings import SimEpisodeSettings
from .settings import preset
from .transitions import CANDIDATES, TransitionBuilder
from .updates import open_update, updates_seen

_ALONE = SimEpisodeSettings(human=None, success_by="environment")


def evaluate_version(folder: Path, contract: str, seeds: Iterable[int]) -> Iterator[EpisodeResult]:
    """Drive a scene per seed with a version that ``write_update`` wrote.

    Args:
        folder: of the version.
        contract: file of the robot's.
        seeds: scenes.

    Raises:
        LearnError, CheckpointError, ContractError: as ``open_update``.
    """
    files = open_folder(folder)
    base, agent = open_update(files, load_contract(contract), "cpu")
    driver = Driver(agent.settings, base, agent)
    warm = agent.settings.warm(updates_seen(files))
    yield from _drive(driver, seeds, Acting(base_only=not warm))  # as the robot does


def evaluate_policy(
    folder: Path, contract: str, seeds: Iterable[int], speed: float = 1.0
) -> Iterator[EpisodeResult]:
    """Drive a scene per seed with a plain checkpoint, in the same way.

    Args:
        folder, contract, seeds: as for ``evaluate_version``.
        speed: at which its chunks are executed.
    """
    speeds = (1.0,) if speed == 1 else (1.0, speed)
    settings = preset(CRITICS_ONLY, act_chunk_size=1, num_candidates=1, speeds=speeds)
    base = open_base(load_policy(folder, "cpu"), load_contract(contract), settings)
    driver = Driver(settings, base, _Steady(settings, base))
    yield from _drive(driver, seeds, Acting())


class _Steady(Agent):
    """Follows the base at the last of the speeds, whatever critics say."""

    def decide(self, observation: dict[str, Tensor], *_: object) -> Decision:
        chunk = observation[CANDIDATES][0, -1, -1]
        return Decision(chunk, float("nan"), "base", self.settings.speeds[-1])


def _drive(driver: Driver, seeds: Iterable[int], acting: Acting) -> Iterator[EpisodeResult]:
    base = driver.base
    signals = signal_settings(base.loaded)
    builder = TransitionBuilder(base.spec(driver.settings), driver.settings.steps)
    with simulation(base.contract) as sim:
        for seed in seeds:
            episode = SimEpisode(
                sim, driver, base.contract, signals, _ALONE, builder, lambda transition: None
            )
            yield episode.run("", seed, seed, acting)
