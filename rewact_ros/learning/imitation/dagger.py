"""HG-DAgger in simulation: collect episodes with help, fine-tune, go on with what passes a test.

Kelly et al., HG-DAgger (arXiv:1810.02890). What exists of a run is not done again, so that a killed
run goes on where it was.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rewact_ros.contract import Contract, load_contract
from rewact_ros.control.modes import Mode
from rewact_ros.episodes.dataset import add_episode, new_dataset, whole_folder, write_json
from rewact_ros.episodes.helped import HelpedEpisode, drive_with_help
from rewact_ros.episodes.loop import FrameLog
from rewact_ros.episodes.rollout_dataset import simulated
from rewact_ros.episodes.settings import HelpSettings
from rewact_ros.learning.evaluation.calibrate import signal_settings
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy
from rewact_ros.sim.human import LOOK_S
from rewact_ros.sim.task import DEFAULT_TASK

from .demonstrations import Demonstrations, load_demonstrations
from .finetune import PolicyComparison, compare, fine_tune
from .settings import RoundsSettings, TrainError

REPORT = Path("meta") / "interventions.json"
_DWELL_S = 0.5  # completion is judged by that long a window
_FURTHER = {
    "intervention": {"dtype": "bool", "shape": (1,), "names": None},
    "control_mode": {"dtype": "int64", "shape": (1,), "names": None},
}


@dataclass(frozen=True)
class Round:
    """What a round gave.

    Attributes:
        policy: the checkpoint that it trained.
        collected: its episodes.
        comparison: of that checkpoint with the one that drove.
        wall_s: collecting, training and comparing.
    """

    policy: Path
    collected: list[HelpedEpisode]
    comparison: PolicyComparison
    wall_s: float

    @property
    def interventions(self) -> float:
        """Per episode, with the policy before this round's training."""
        return sum(e.interventions for e in self.collected) / len(self.collected)


def run_rounds(
    settings: RoundsSettings,
    cache: Path | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Iterator[Round]:
    """Yield each round when it is done; its policy drives the next one if the test keeps it.

    Raises:
        TrainError: rounds exist already and are not to be resumed; and as ``fine_tune``.
        DatasetError: a round without any intervention that teaches; and as ``fine_tune``.
        CalibrationError: the policy has no reward head, so that nothing calls the human.
    """
    training, out = settings.training, Path(settings.training.out)
    assert training.start is not None and training.contract is not None  # as checked
    if not resume and (out / "round-1").exists():
        raise TrainError(f"{out}: holds rounds; go on with --resume, or give another --out")
    contract, best = load_contract(training.contract), Path(training.start)
    seeds = range(settings.test_seed, settings.test_seed + settings.test_episodes)
    nominal = undisturbed_frames(load_demonstrations(Path(training.dataset)))
    datasets = list(training.interventions)
    known: tuple[float, ...] = ()  # scores of `best` on the first scenes
    for index in range(settings.rounds):
        folder, begun_s = out / f"round-{index + 1}", time.monotonic()
        dataset, done = folder / "interventions", folder / "round.json"
        if not dataset.exists():
            first = settings.seed + index * settings.episodes
            scenes = range(first, first + settings.episodes)
            episodes = collect(
                load_policy(best),
                contract,
                scenes,
                settings.help,
                dataset,
                nominal,
                training.task,
            )
            _watch(episodes, len(scenes), index, show_progress)
        datasets.append(str(dataset))
        run = replace(
            training,
            start=str(best),
            interventions=tuple(datasets),
            out=str(folder / "train"),
        )
        new = fine_tune(run, cache, resume=True, show_progress=show_progress)
        saved = json.loads(done.read_text()) if done.exists() else {}
        if "result" in saved:
            wall_s = saved["wall_s"]
            comparison = PolicyComparison.of_document(saved)
        else:
            comparison = compare(
                best,
                new,
                contract,
                seeds,
                training.task,
                settings.replacement,
                known,
                show_progress,
            )
            wall_s = time.monotonic() - begun_s
            write_json(done, {**comparison.document, "wall_s": wall_s})
        yield Round(new, read_collected(dataset), comparison, wall_s)
        driven = comparison.result
        if comparison.kept:
            best, known = new, driven.new
        else:
            known = max(known, driven.old, key=len)


def collect(
    loaded: LoadedPolicy,
    contract: Contract,
    seeds: Iterable[int],
    settings: HelpSettings,
    out: Path,
    nominal_frames: int,
    task: str = DEFAULT_TASK,
) -> Iterator[HelpedEpisode]:
    """Drive an episode per seed with help at hand, yield it, and write all to a new dataset.

    The folder appears when the last episode is done. Columns beside the demonstrations' are
    ``intervention`` (the human leads) and ``control_mode``.

    Args:
        loaded: a policy with a reward head.
        contract: of the simulated robot.
        seeds: scenes.
        settings: when help is called.
        out: must not exist.
        nominal_frames: of an undisturbed attempt, for the labels.
        task: name of the simulated task.

    Raises:
        DemosError: the folder exists, or the contract does not fit the simulated robot.
        CalibrationError: the policy has no reward head.
        ContractError, CheckpointError: the policy was made for another contract.
    """
    level, results = signal_settings(loaded).level, []
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(out) as partial, simulated(loaded, contract, task) as (engine, sim):
        with new_dataset(contract, partial, _FURTHER) as dataset:
            for seed in seeds:
                result, frames = drive_with_help(engine, sim, seed, level, settings)
                add_episode(
                    dataset,
                    contract,
                    sim.text,
                    frames.state,
                    frames.action,
                    frames.images,
                    helped_labels(result, frames, nominal_frames, sim.rate_hz),
                )
                results.append(result)
                yield result
        write_json(
            partial / REPORT,
            {
                "policy": loaded.version,
                "settings": asdict(settings),
                "episodes": [asdict(result) for result in results],
            },
        )


def read_collected(dataset: Path) -> list[HelpedEpisode]:
    """How the episodes of a collected dataset went."""
    report = json.loads((dataset / REPORT).read_text())
    return [HelpedEpisode(**episode) for episode in report["episodes"]]


def helped_labels(
    result: HelpedEpisode, frames: FrameLog, nominal_frames: int, rate_hz: int
) -> dict[str, NDArray[Any]]:
    """Label the n frames of an episode by its verdict, each (n,); the truth has no part in it.

    Progress is known on the way to a success only: from the last takeover on, or from the start
    where nobody took over, it is what is not left to do at the pace of a demonstration. All other
    frames are NaN. Only human frames of episodes that succeed are demonstrations.
    """
    n = len(frames.state)
    human = np.array([mode is Mode.HUMAN for mode in frames.mode])
    reward, success = np.full(n, np.nan, np.float32), np.zeros(n, bool)
    if result.success:
        watched_s = LOOK_S if result.by == "human" else _DWELL_S
        done = max(n - round(watched_s * rate_hz), 0)
        begins = np.flatnonzero(np.diff(human.astype(np.int8)) == 1) + 1
        first = int(begins[-1]) if len(begins) else 0
        to_go = np.maximum(done - np.arange(n), 0) / nominal_frames
        reward[first:] = np.clip(1 - to_go, 0, 1)[first:]
        success[done:] = True
    return {
        "next.reward": reward,
        "next.done": np.arange(n) == n - 1,
        "next.success": success,
        "demo_is_pad": ~(human & result.success),
        "intervention": human,
        "control_mode": np.array(frames.mode, np.int64),
    }


def undisturbed_frames(data: Demonstrations) -> int:
    """Median of the frames until a demonstration's label reaches 1.

    Raises:
        TrainError: no demonstration's does.
    """
    done = np.flatnonzero(data.reward >= 1)
    first = done[np.unique(data.episode[done], return_index=True)[1]]
    if not len(first):
        raise TrainError(
            f"{data.source.root}: next.reward reaches 1 in no episode, so the pace of a "
            "demonstration is not known; label it with `rewact label`"
        )
    return int(np.median(first - data.start[first]))


def _watch(episodes: Iterator[HelpedEpisode], total: int, index: int, show_progress: bool) -> None:
    with tqdm(
        episodes,
        total=total,
        desc=f"round {index + 1}: collect",
        unit="episode",
        mininterval=1,
        disable=not show_progress,
    ) as bar:
        interventions = 0
        for episode in bar:
            interventions += episode.interventions
            bar.set_postfix(interventions=interventions)
