"""Roll-outs of a task for `rewact bench tasks`: of policies, of the expert, and of its real faults.

All end alike: so long after lasting success, else at the time-out. Whoever drove, an episode is
recorded with the outcome that the simulation's truth gives it.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rewact_ros.contract import Contract
from rewact_ros.control.modes import Mode
from rewact_ros.data.dataset.reader import open_dataset
from rewact_ros.data.labels.write import EpisodeLabels, open_labelled, write_labels
from rewact_ros.episodes.dataset import add_episode, new_dataset, whole_folder, write_json
from rewact_ros.episodes.loop import drive
from rewact_ros.episodes.rollout import Trace, UntilDone
from rewact_ros.episodes.rollout_dataset import record_rollouts, rollout_labels, simulation
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.sim.task import Expert, FloatArray, Task, find_task

_REPORT = Path("meta") / "rollouts.json"


@dataclass(frozen=True)
class Outcome:
    """How an episode ended: seed of its scene, and the truth at the end."""

    seed: int
    success: bool
    stage: str
    failure: str


def outcomes(dataset: Path) -> list[Outcome]:
    """How the episodes of a recorded dataset ended."""
    report = json.loads((dataset / _REPORT).read_text())
    keys = ("seed", "success", "stage", "failure")
    return [Outcome(*(episode[key] for key in keys)) for episode in report["episodes"]]


def by_policy(
    loaded: LoadedPolicy,
    contract: Contract,
    seeds: range,
    settings: RolloutSettings,
    out: Path,
    task: str,
) -> list[Outcome]:
    """Roll-outs of a policy; those that lie in `out` already are not driven again."""
    if not out.exists():
        _clear(out)
        episodes = record_rollouts(loaded, contract, seeds, settings, out, task)
        for _ in tqdm(episodes, total=len(seeds), desc=out.name, unit="episode", mininterval=5):
            pass
    return outcomes(out)


def by_script(
    contract: Contract,
    seeds: range,
    settings: RolloutSettings,
    out: Path,
    task: str,
    faults: tuple[str, ...] = (),
) -> list[Outcome]:
    """Roll-outs of the task's expert, which makes one of `faults` after another; (): none."""
    if out.exists():
        return outcomes(out)
    _clear(out)
    results: list[Outcome] = []
    with whole_folder(out) as partial, simulation(contract, task) as sim:
        further = {"predicted_reward": {"dtype": "float32", "shape": (1,), "names": None}}
        with new_dataset(contract, partial, further) as dataset:
            bar = tqdm(seeds, desc=out.name, unit="episode", mininterval=5)
            for index, seed in enumerate(bar):
                fault = faults[index % len(faults)] if faults else ""
                trace = _scripted(sim, seed, fault, settings)
                frames = trace.state, trace.action, trace.images
                add_episode(dataset, contract, sim.text, *frames, rollout_labels(sim, trace))
                truth = sim.truth()
                results.append(Outcome(seed, truth.success, truth.stage, truth.failure))
        report: dict[str, Any] = {
            "policy": {"path": "expert", "version": ""},
            "settings": {**asdict(settings), "faults": list(faults)},
            "episodes": [asdict(result) for result in results],
        }
        write_json(partial / _REPORT, report)
    return results


@dataclass(frozen=True)
class Gathered:
    """Roll-outs that a judge is judged or calibrated on.

    Attributes:
        sources: whose -> their dataset.
        successes, failures: of each.
    """

    sources: dict[str, str]
    successes: dict[str, int]
    failures: dict[str, int]

    @property
    def datasets(self) -> list[Path]:
        """In order; the policy's first."""
        return [Path(folder) for folder in self.sources.values()]


def gather(
    policy: LoadedPolicy,
    weak: LoadedPolicy,
    contract: Contract,
    task: str,
    settings: RolloutSettings,
    out: Path,
    first: int,
    scenes: int,
    least: int,
) -> Gathered:
    """Roll-outs of the policy and, where they lack one outcome, of others on further scenes.

    Failures are those of a policy of fewer steps, then the expert's real faults; successes are the
    expert's.

    Args:
        policy: that is judged.
        weak: that fails more often.
        contract: of the task's robot.
        task: its name.
        settings: how episodes end.
        out: folder of the datasets.
        first: seed; each source has a quarter of the next 10 000.
        scenes: of the policy.
        least: of either outcome.
    """
    starts = iter(range(first, first + 10_000, 2500))
    found: dict[str, list[Outcome]] = {}

    def seeds(count: int) -> range:
        start = next(starts)
        return range(start, start + count)

    def lacks(success: bool) -> int:
        every = [outcome for own in found.values() for outcome in own]
        return max(least - sum(outcome.success is success for outcome in every), 0)

    def drive_policy(name: str, loaded: LoadedPolicy, count: int) -> None:
        found[name] = by_policy(loaded, contract, seeds(count), settings, out / name, task)

    def drive_expert(name: str, count: int, faults: tuple[str, ...] = ()) -> None:
        found[name] = by_script(contract, seeds(count), settings, out / name, task, faults)

    drive_policy("policy", policy, scenes)
    if lacks(success=False):
        drive_policy("weak", weak, 2 * least)
    faults = find_task(task).faults
    if faults and (count := lacks(success=False)):
        drive_expert("faults", count, faults)
    if count := lacks(success=True):
        drive_expert("expert", count)
    return Gathered(
        {name: str(out / name) for name in found},
        {name: sum(o.success for o in own) for name, own in found.items()},
        {name: sum(not o.success for o in own) for name, own in found.items()},
    )


def judged_rollouts(
    weak: LoadedPolicy,
    contract: Contract,
    task: str,
    settings: RolloutSettings,
    out: Path,
    first: int,
    count: int,
) -> list[Path]:
    """`count` roll-outs for a person to judge; half of them the expert's faults if few fail."""
    half = count // 2
    begun = by_policy(weak, contract, range(first, first + half), settings, out / "weak", task)
    rest = range(first + half, first + count)
    faults = find_task(task).faults
    if faults and sum(not outcome.success for outcome in begun) < half // 2:
        by_script(contract, rest, settings, out / "faults", task, faults)
        datasets = [out / "weak", out / "faults"]
    else:
        by_policy(weak, contract, rest, settings, out / "weak-too", task)
        datasets = [out / "weak", out / "weak-too"]
    for dataset in datasets:
        _tell_verdicts(dataset)
    return datasets


def _tell_verdicts(dataset: Path) -> None:
    """Label failures as a person's verdict does: nobody knows when or how, and none is left out."""
    found = open_labelled(dataset)
    assert found.labels is not None  # a roll-out's are never absent
    failed = [k for k, outcome in enumerate(outcomes(dataset)) if not outcome.success]
    lengths = {index: found.lengths[index] for index in failed}
    write_labels(
        found,
        {k: EpisodeLabels(np.zeros(n, np.float32), np.zeros(n, bool)) for k, n in lengths.items()},
    )


def _clear(out: Path) -> None:
    """Make room for a dataset; what a killed run left of it goes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out.with_name(out.name + ".partial"), ignore_errors=True)


def _scripted(task: Task, seed: int, fault: str, settings: RolloutSettings) -> Trace:
    """One episode of the expert, which waits at the end of its plan."""
    task.reset(seed)
    expert = task.expert(np.random.default_rng((seed, 1)), fault)
    trace = Trace(expert=expert)
    drive(task, _Script(task, expert, settings), [trace])
    trace.sent(task.command, Mode.POLICY)  # a last frame may have seen no command
    return trace


class _Script:
    """Leads by one plan, until success has lasted or time is up."""

    every = 1
    mode = Mode.POLICY

    def __init__(self, task: Task, expert: Expert, settings: RolloutSettings) -> None:
        self._task, self._expert = task, expert
        self.over = UntilDone(task, settings)

    def see(self, tick: int, observation: dict[str, Any]) -> tuple[bool, None]:
        return True, None

    def command(self, tick: int) -> FloatArray:
        return self._expert.command(min(tick / self._task.command_hz, self._expert.duration_s))


def median_frames(demos: Path) -> float:
    """Median length of the demonstrations, frames."""
    report = json.loads((demos / "meta" / "demos.json").read_text())
    return float(np.median([episode["frames"] for episode in report["episodes"]]))


def curves(dataset: Path) -> Iterator[list[float]]:
    """What the policy predicted at each frame of each episode, rounded for a result file."""
    source = open_dataset(dataset)
    table = source.hf_dataset.with_format("numpy")
    said = np.asarray(table["predicted_reward"], float).reshape(-1)
    for row in source.meta.episodes:
        span = said[row["dataset_from_index"] : row["dataset_to_index"]]
        yield [round(float(value), 3) for value in span]
