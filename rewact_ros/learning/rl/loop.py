"""The fast path: simulation, human, monitor and learner in one process, without ROS."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from rewact_ros.contract import load_contract
from rewact_ros.data.sim_dataset import check_contract
from rewact_ros.learning.calibrate import signal_settings
from rewact_ros.learning.run_log import RunLog
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.sim.pick_place import PickPlaceSim

from .agent import Agent
from .base import Base, open_base
from .demos import open_demos
from .driver import Driver
from .environment import Acting, EpisodeResult, EpisodeSettings, SimEpisode
from .journal import Journal
from .learner import Learner
from .settings import LearnError, RLSettings
from .transitions import Transition, TransitionBuilder
from .updates import write_update

_RECENT = 20  # episodes that the running rates are taken over
_RESULTS = "episodes.jsonl"


@dataclass(frozen=True)
class LearnSettings:
    """A run on the fast path.

    Attributes:
        out: folder of the run.
        policy: checkpoint folder of the base, best one that was fine-tuned on interventions.
        contract: file of the simulated arm's.
        rl: algorithm and learner.
        episode: how episodes end, and who helps.
        demos: folder of a LeRobotDataset of successes; "": none.
        demo_episodes: how many of its successes are taken.
        episodes: of the run.
        first_seed: scene of the first episode; below 100 000.
        eval_every: episodes between evaluations (0: none).
        eval_episodes, eval_seed: scenes of an evaluation; 100 000 to 199 999 are for choosing.
        save_every_s: longest time between checkpoints.
        device: ``auto``, ``cpu`` or ``cuda``.
        wandb: Weights & Biases project that is logged to beside TensorBoard.

    Raises:
        LearnError: a number out of range.
    """

    out: str
    policy: str
    contract: str
    rl: RLSettings = field(default_factory=RLSettings)
    episode: EpisodeSettings = field(default_factory=EpisodeSettings)
    demos: str = ""
    demo_episodes: int = 30
    episodes: int = 200
    first_seed: int = 50_000
    eval_every: int = 50
    eval_episodes: int = 20
    eval_seed: int = 150_000
    save_every_s: float = 60.0
    device: str = "auto"
    wandb: str | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("demo_episodes", 1, 1_000_000),
            ("episodes", 0, 1_000_000),
            ("first_seed", 0, 99_999),
            ("eval_every", 0, 1_000_000),
            ("eval_episodes", 1, 100_000),
            ("eval_seed", 100_000, 10_000_000),
            ("save_every_s", 0, 3600),
        ):
            if not low <= getattr(self, name) <= high:
                raise LearnError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")


class FastLoop:
    """One run; a killed one goes on where its journal ends, from its last checkpoint.

    Args:
        settings: of the run.
        resume: go on with what lies in ``out``.
        report: called with the newest figures after every episode.

    Raises:
        LearnError: ``out`` holds a run that is not to be resumed, or another one.
    """

    def __init__(
        self,
        settings: LearnSettings,
        resume: bool = False,
        report: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self._settings, self._report = settings, report or (lambda figures: None)
        self._out = Path(settings.out)
        if (self._out / "journal").exists() and not resume:
            raise LearnError(
                f"{self._out}: holds a run; continue it with --resume, or give another --out"
            )
        self._journal = Journal(self._out / "journal")  # whoever holds it owns the folder
        contract = load_contract(settings.contract)
        check_contract(contract)
        self._base = open_base(load_policy(settings.policy, settings.device), contract, settings.rl)
        self._signals = signal_settings(self._base.loaded)
        self.agent = new_agent(settings.rl, self._base)
        self._spec = self._base.spec(settings.rl)
        self.learner = Learner(settings.rl, self.agent, self._spec, self._out / "replay")
        self._resumed = self.learner.load(self._out)
        self._best = -1.0
        self._logs: dict[str, float] = {}
        self._recent: deque[EpisodeResult] = deque(maxlen=_RECENT)
        self._saved_s = time.monotonic()
        self._begin_s, self._begin_updates = time.monotonic(), self.learner.counts.updates

    def run(self) -> dict[str, float]:
        """Run to the last episode; returns the newest figures."""
        settings = self._settings
        first = self._restore()
        log = RunLog(settings, self.learner.counts.robot_steps if self._resumed else None)
        figures: dict[str, float] = {}
        try:
            with _simulation(self._base) as sim:
                driver = Driver(settings.rl, self._base, self.agent)
                if first == 0 and settings.eval_every:
                    figures = self._evaluate(sim, driver)
                    log.add("learn", figures, 0)
                for number in range(first, settings.episodes):
                    result = self._episode(sim, driver, number)
                    figures |= self._figures(result)
                    if settings.eval_every and (number + 1) % settings.eval_every == 0:
                        figures |= self._evaluate(sim, driver)
                    log.add("learn", figures, self.learner.counts.robot_steps)
                    self._report(figures)
            self._save()
        finally:  # no checkpoint of an update that was broken off: the journal has it all
            log.close()
            self._journal.close()
        return figures

    def _restore(self) -> int:
        """Fill the buffers, catch up with the journal; returns the number of the next episode."""
        settings = self._settings
        episodes = self._out / _RESULTS
        if self._resumed and episodes.exists():
            self._best = max(
                (r["validation_success"] for r in _lines(episodes) if "validation_success" in r),
                default=-1.0,
            )
        demos: Journal | None = None
        if settings.demos:
            demos = open_demos(
                self._out / "demos",
                Path(settings.demos),
                settings.demo_episodes,
                self._base,
                settings.rl,
                self._signals,
                settings.episode.completion,
            )
        taken = self.learner.counts.transitions
        self.learner.restore(demos.read() if demos else (), self._journal.read())
        if demos:
            demos.close()
        for transition in self._journal.read(taken):  # not in the checkpoint: nothing is lost
            self._learn(transition)
        last = -1
        for transition in self._journal.read(max(len(self._journal) - 1, 0)):
            last = int(transition.episode)
        return last + 1

    def _episode(self, sim: PickPlaceSim, driver: Driver, number: int) -> EpisodeResult:
        updates = self.learner.counts.updates
        acting = Acting(True, not self.learner.warmed_up, f"{self._base.loaded.version}+{updates}")
        episode = self._sim_episode(sim, driver, self._settings.episode, self._take)
        seed = self._settings.first_seed + number
        result = episode.run(f"{number:06d}", number, seed, acting)
        self._recent.append(result)
        self._journal.sync()
        self._record({"episode": number, **asdict(result)})
        if time.monotonic() - self._saved_s > self._settings.save_every_s:
            self._save()
        return result

    def _sim_episode(
        self,
        sim: PickPlaceSim,
        driver: Driver,
        settings: EpisodeSettings,
        sink: Callable[[Transition], None],
    ) -> SimEpisode:
        builder = TransitionBuilder(self._spec, self._settings.rl.steps)
        return SimEpisode(sim, driver, self._base.contract, self._signals, settings, builder, sink)

    def _take(self, transition: Transition) -> None:
        """To disk first, then to the learner."""
        self._journal.append(transition)
        self._learn(transition)

    def _learn(self, transition: Transition) -> None:
        self.learner.add(transition)
        for _ in range(self.learner.due):
            self._logs |= self.learner.update()

    def _evaluate(self, sim: PickPlaceSim, driver: Driver) -> dict[str, float]:
        """Unseen scenes without help and exploration; the best agent so far is published."""
        settings = self._settings
        alone = EpisodeSettings(**{**vars(settings.episode), "human": None})
        acting = Acting(base_only=not self.learner.warmed_up)
        results = []
        for seed in range(settings.eval_seed, settings.eval_seed + settings.eval_episodes):
            episode = self._sim_episode(sim, driver, alone, lambda transition: None)
            results.append(episode.run("", seed, seed, acting))
        done = [r.duration_s for r in results if r.truth]
        figures = {
            "success": sum(r.truth for r in results) / len(results),
            "verdicts_right": sum(r.truth == r.success for r in results) / len(results),
            "cycle_s": sum(done) / len(done) if done else float("nan"),
        }
        if figures["success"] > self._best:
            self._best = figures["success"]
            updates = self.learner.counts.updates
            update = write_update(self._out / "policies", self.agent, self._base, updates)
            (self._out / "best.json").write_text(json.dumps({**asdict(update), **figures}) + "\n")
        named = {f"validation_{name}": value for name, value in figures.items()}
        self._record({"robot_steps": self.learner.counts.robot_steps, **named})
        return named

    def _figures(self, result: EpisodeResult) -> dict[str, float]:
        counts, recent = self.learner.counts, self._recent
        elapsed_s = max(time.monotonic() - self._begin_s, 1e-6)
        decisions = max(sum(result.choices.values()), 1)
        return self._logs | {
            "success": sum(r.success for r in recent) / len(recent),
            "truth": sum(r.truth for r in recent) / len(recent),
            "interventions": sum(r.interventions for r in recent) / len(recent),
            "human_share": sum(r.human_s for r in recent) / sum(r.duration_s for r in recent),
            "duration_s": result.duration_s,
            "actor_share": result.choices.get("actor", 0) / decisions,
            "calibration_gap": self.learner.calibration.gap,
            "robot_steps": counts.robot_steps,
            "robot_min": counts.robot_steps * self._base.contract.dt_s / 60,
            "updates": counts.updates,
            "updates_per_s": (counts.updates - self._begin_updates) / elapsed_s,
            "online_steps": len(self.learner.online),
            "demo_steps": len(self.learner.demos),
        }

    def _record(self, line: dict) -> None:
        with (self._out / _RESULTS).open("a") as handle:
            handle.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        self._journal.sync()
        self.learner.save(self._out)
        self._saved_s = time.monotonic()


def new_agent(settings: RLSettings, base: Base) -> Agent:
    """An agent whose first weights derive from the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Agent(settings, base).to(base.loaded.config.device)


@contextmanager
def _simulation(base: Base) -> Iterator[PickPlaceSim]:
    height, width, _ = base.contract.cameras[0].shape
    sim = PickPlaceSim(width, height)
    try:
        yield sim
    finally:
        sim.close()


def _lines(file: Path) -> Iterator[dict]:
    """Records of a file of JSON lines; a torn last line, of a killed process, is left out."""
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
