"""From a running checkpoint to one that learned from corrections, and whether it is better."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from rewact_ros.contract import (
    Contract,
    check_signature,
    load_contract,
    signature_of_dataset,
)
from rewact_ros.data.dataset.info import read_info
from rewact_ros.episodes.dataset import DemosError, check_contract
from rewact_ros.episodes.rollout_dataset import roll_outs
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.compatibility import check_contract as check_policy
from rewact_ros.sim.task import find_task

from .settings import TrainError, TrainSettings
from .train import train
from .training_state import POLICY, TrainingState


@dataclass(frozen=True)
class PolicyComparison:
    """Two policies over the same simulated scenes.

    Attributes:
        old, new: versions.
        old_successes, new_successes: of ``episodes`` scenes, of seeds from ``seed`` on.
    """

    old: str
    new: str
    old_successes: int
    new_successes: int
    episodes: int
    seed: int

    @property
    def kept(self) -> bool:
        """Whether the new policy is at least as good."""
        return self.new_successes >= self.old_successes

    @property
    def line(self) -> str:
        """The verdict for the terminal."""
        n, seeds = self.episodes, f"seeds {self.seed} to {self.seed + self.episodes - 1}"
        verdict = "kept" if self.kept else "worse: not promoted"
        return (
            f"success {self.old_successes}/{n} -> {self.new_successes}/{n} ({seeds}); "
            f"{self.new}: {verdict}"
        )


def fine_tune(
    settings: TrainSettings,
    cache: Path | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Path:
    """Train on from ``settings.start`` on the mixture; returns the new checkpoint's folder.

    The old checkpoint and every dataset are compared with ``settings.contract`` before, the new
    checkpoint afterwards.

    Raises:
        TrainError: no checkpoint to start from, or no contract; and as ``train``.
        ContractError, CheckpointError: the checkpoint or a dataset is another robot's.
    """
    if settings.start is None or settings.contract is None:
        raise TrainError("fine-tuning needs a policy to start from and the robot's contract")
    contract = load_contract(settings.contract)
    if TrainingState.find(Path(settings.out)) is None:
        check_policy(load_policy(settings.start, "cpu"), contract)
    for folder in (settings.dataset, *settings.interventions):
        check_dataset(contract, Path(folder))
    train(settings, cache, resume, show_progress)
    finished = Path(settings.out) / "checkpoints" / "last" / POLICY
    check_policy(load_policy(finished, "cpu"), contract)
    return finished


def check_dataset(contract: Contract, folder: Path) -> None:
    """Refuse a dataset of another robot.

    Raises:
        ContractError: names the first key that differs.
        DatasetError: no dataset.
    """
    info = read_info(folder)
    check_signature(contract, signature_of_dataset(info), f"data set {folder}")


def can_be_simulated(contract: Contract, task: str) -> bool:
    """Tell whether the contract is that of the task's robot."""
    try:
        check_contract(contract, find_task(task))
    except DemosError:
        return False
    return True


def count_successes(
    policy: Path,
    contract: Contract,
    seeds: Iterable[int],
    task: str,
    show_progress: bool = True,
) -> int:
    """Drive a scene per seed without any help; returns how many succeed.

    Raises:
        DemosError, SimulationUnavailableError: this robot cannot be simulated here.
        ContractError, CheckpointError: the policy was made for another one.
    """
    seeds = list(seeds)
    loaded, successes = load_policy(policy), 0
    with tqdm(
        roll_outs(loaded, contract, seeds, RolloutSettings(), task),
        total=len(seeds),
        desc=f"test {loaded.version}",
        unit="episode",
        mininterval=1,
        disable=not show_progress,
    ) as bar:
        for rollout in bar:
            successes += rollout.success
            bar.set_postfix(success=successes)
    return successes


def compare(
    old: Path,
    new: Path,
    contract: Contract,
    seeds: range,
    task: str,
    old_successes: int | None = None,
    show_progress: bool = True,
) -> PolicyComparison:
    """Try both policies on the same scenes of a task; ``old_successes``: known from before."""
    if old_successes is None:
        old_successes = count_successes(old, contract, seeds, task, show_progress)
    new_successes = count_successes(new, contract, seeds, task, show_progress)
    return PolicyComparison(
        old=load_policy(old, "cpu").version,
        new=load_policy(new, "cpu").version,
        old_successes=old_successes,
        new_successes=new_successes,
        episodes=len(seeds),
        seed=seeds.start,
    )


def write_comparison(file: Path, comparison: PolicyComparison) -> None:
    """Keep a comparison beside the run."""
    file.write_text(json.dumps({**asdict(comparison), "kept": comparison.kept}, indent=2) + "\n")
