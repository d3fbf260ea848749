"""From a running checkpoint to one that learned from corrections, and whether it is better."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

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
from rewact_ros.trials.replacement import Replacement, ReplacementSettings, ReplacementTest

from .settings import TrainError, TrainSettings
from .train import train
from .training_state import POLICY, TrainingState


@dataclass(frozen=True)
class PolicyComparison:
    """Two policies over the same simulated scenes.

    Attributes:
        old, new: versions.
        seed: of the first scene; the others follow.
        result: of the test; its scores are 1 for success, else 0.
    """

    old: str
    new: str
    seed: int
    result: Replacement

    @property
    def kept(self) -> bool:
        """Whether the new policy takes the place of the old one."""
        return self.result.kept

    @property
    def line(self) -> str:
        """The verdict for the terminal."""
        return f"{self.old} -> {self.new}: {self.result.line} (seeds from {self.seed})"

    @property
    def document(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return {**asdict(self), "kept": self.kept}

    @classmethod
    def of_document(cls, raw: Mapping[str, Any]) -> "PolicyComparison":
        """Read what ``document`` gave."""
        result = dict(raw["result"])
        result["settings"] = ReplacementSettings(**result["settings"])
        for name in ("old", "new"):
            result[name] = tuple(result[name])
        return cls(raw["old"], raw["new"], raw["seed"], Replacement(**result))


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
    settings: ReplacementSettings,
    known: Sequence[float] = (),
    show_progress: bool = True,
) -> PolicyComparison:
    """Try both policies on the same scenes of a task, until the test has a verdict.

    Args:
        old, new: checkpoints.
        contract, seeds, task: as of ``count_successes``; all the scenes that there are.
        settings: of the test.
        known: scores of the old one on the first scenes, from before.
        show_progress: on the terminal.

    Raises:
        DemosError, SimulationUnavailableError, ContractError, CheckpointError: as
            ``count_successes``.
    """
    before, now = load_policy(old), load_policy(new)
    test = ReplacementTest(settings, len(seeds))
    with (
        closing(roll_outs(before, contract, seeds[len(known) :], RolloutSettings(), task)) as olds,
        closing(roll_outs(now, contract, seeds, RolloutSettings(), task)) as news,
        tqdm(
            total=len(seeds),
            desc=f"test {now.version}",
            unit="scene",
            mininterval=1,
            disable=not show_progress,
        ) as bar,
    ):
        scores = chain(known, (float(rollout.success) for rollout in olds))
        # The new one second: what is known of the old one costs no scene.
        for was, rollout in zip(scores, news, strict=False):
            result = test.add(was, float(rollout.success))
            bar.update()
            bar.set_postfix(old=sum(result.old), new=sum(result.new))
            if result.verdict:
                break
    return PolicyComparison(before.version, now.version, seeds.start, test.state)


def write_comparison(file: Path, comparison: PolicyComparison) -> None:
    """Keep a comparison beside the run."""
    file.write_text(json.dumps(comparison.document, indent=2) + "\n")
