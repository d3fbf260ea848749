"""A learning run on disk: its journal, learner, figures and versions, however transitions come."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from rewact_ros.contract import load_contract
from rewact_ros.files import point
from rewact_ros.learning.evaluation.calibrate import signal_settings
from rewact_ros.learning.run_log import RunLog
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.updates import Update
from rewact_ros.runs import NEWEST, VERSIONS

from .agent import Agent
from .base import Base, open_base
from .demos import open_demos
from .figures import RunFigures
from .film import EpisodeFilm
from .journal import Journal
from .learner import Learner
from .reward_judge import RewardJudge
from .run_settings import RunSettings
from .settings import LearnError, RLSettings
from .team import Order, Team, make_team
from .transitions import Transition
from .updates import write_update

_REPLAY = "replay"
_KEPT = 5  # newest versions; the robot may go back to the one before


class LearningRun:
    """One run; a killed one goes on where its journal ends, from its last checkpoint.

    ``restore`` fills the buffers; what ``behind`` yields is then to be learned, and what comes is
    to be taken.

    Attributes:
        journal: of the executed transitions.
        base, agent, learner: frozen policy, what is learned, and who learns.
        spec: of the frames.
        signals: what a monitor of this policy judges by.

    Args:
        settings: of the run.
        resume: go on with what lies in ``out``.

    Raises:
        LearnError: ``out`` holds a run that is not to be resumed, or another one; the policy or the
            settings do not fit.
        JournalError: another process learns there.
        CheckpointError, ContractError: of policy and contract.
    """

    def __init__(self, settings: RunSettings, resume: bool) -> None:
        self.settings, self.out = settings, Path(settings.out)
        if (self.out / "journal").exists() and not resume:
            raise LearnError(
                f"{self.out}: holds a run; continue it with --resume, or give another --out"
            )
        self.journal = Journal(self.out / "journal")  # whoever holds it owns the folder
        team = make_team(settings.device, settings.rl.batch_size)
        self.base, self.learner = _open(settings, team, self.out / _REPLAY)
        self.agent, self.spec = self.learner.agent, self.base.spec(settings.rl)
        self.signals = signal_settings(self.base.loaded)
        self.resumed = self.learner.load(self.out)
        contract = self.base.contract
        self._figures = RunFigures(contract.dt_s, settings.rl.discount, settings.target)
        self._film = EpisodeFilm(
            self.out / "videos", settings.video_every, contract.rate_hz, self.base.cameras
        )
        self._log: RunLog | None = None
        self._logs: dict[str, float] = {}
        self._saved_s = self._begin_s = time.monotonic()
        self._saved_at = self._begin_updates = self.learner.counts.updates

    @property
    def episodes(self) -> int:
        """Episodes that are over."""
        return self._figures.episodes

    def restore(self, completion: float, judge: RewardJudge | None = None) -> None:
        """Fill the buffers: demonstrations, and the journal up to the checkpoint.

        Args:
            completion: level of progress at which a demonstration counts as done.
            judge: of the rewards of demonstrations; None: as their verdict.

        Raises:
            LearnError, ContractError, DatasetError: the demonstrations cannot be used.
        """
        settings = self.settings
        demos: Journal | None = None
        if settings.demos:
            demos = open_demos(
                self.out / "demos",
                Path(settings.demos),
                settings.demo_episodes,
                self.base,
                settings.rl,
                self.signals,
                completion,
                judge,
            )
        taken = self.learner.counts.transitions
        try:
            self.learner.restore(demos.read() if demos else (), self._seen(taken))
        finally:
            if demos:
                demos.close()
        self._begin_s, self._begin_updates = time.monotonic(), self.learner.counts.updates

    def _seen(self, count: int) -> Iterator[Transition]:
        """The journal up to a number; the figures see it too."""
        for _, transition in zip(range(count), self.journal.read(), strict=False):
            self._figures.add(transition)
            yield transition

    def behind(self) -> Iterator[Transition]:
        """What is in the journal and not in the checkpoint: nothing is lost."""
        return self.journal.read(self.learner.counts.transitions)

    def take(self, transition: Transition) -> bool:
        """Journal it, then ``learn``: the learning half of every run, in process and over topics.

        Before it, the robot observed, decided and executed (``FastLoop.run``, or policy and hil,
        from whose messages ``ExecutedSteps`` makes the transition). After it, who calls publishes
        what was learned: ``FastLoop`` by acting with it, the node by ``publish``.

        Returns:
            whether an episode's verdict came with it.

        Raises:
            JournalError: the disk is full; nothing was learned from it.
            LearnError: learning cannot go on.
        """
        self.journal.append(transition)  # first: what a kill interrupts is learned after a resume
        return self.learn(transition)

    def learn(self, transition: Transition) -> bool:
        """Learn from what is on disk; otherwise as ``take``."""
        over = self._figures.add(transition)
        self._film.add(transition, self.episodes - over, over)
        self.learner.add(transition)  # to the replay; its robot steps earn updates
        for _ in range(self.learner.due):
            self._logs |= self.learner.update()  # sample, critics, slow critics, actor, temperature
        return over

    def figures(self) -> dict[str, float]:
        """The newest figures."""
        counts, learner = self.learner.counts, self.learner
        elapsed_s = max(time.monotonic() - self._begin_s, 1e-6)
        return {
            **self._logs,
            **self._figures.now(),
            "calibration_gap": learner.calibration.gap,
            "robot_steps": float(counts.robot_steps),
            "updates": float(counts.updates),
            "updates_per_s": (counts.updates - self._begin_updates) / elapsed_s,
            "online_steps": float(len(learner.online)),
            "demo_steps": float(len(learner.demos)),
        }

    def log(self, figures: dict[str, float]) -> None:
        """Write figures to TensorBoard, and to wandb where asked."""
        if self._log is None:
            steps = self.learner.counts.robot_steps
            self._log = RunLog(self.settings, steps if self.resumed else None)
        known = {name: value for name, value in figures.items() if value == value}
        self._log.add("learn", known, self.learner.counts.robot_steps)

    def publish(self) -> Update:
        """Write the agent as a new version and link it as the newest; the oldest leave."""
        updates = self.learner.counts.updates
        update = write_update(self.out / VERSIONS, self.agent, self.base, updates)
        folder = self.out / VERSIONS
        point(folder / NEWEST, update.path)
        found = [f for f in folder.iterdir() if not (f.name.startswith(".") or f.is_symlink())]
        for old in sorted(found, key=lambda f: f.stat().st_mtime_ns)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return update

    def save_if_due(self) -> None:
        """Write a checkpoint if the last one is old and something was learned since."""
        if time.monotonic() - self._saved_s > self.settings.save_every_s:
            self.save()

    def save(self) -> None:
        """Write a checkpoint."""
        self.journal.sync()
        self.learner.save(self.out)
        self._saved_s = time.monotonic()

    def close(self) -> None:
        """Leave the folder to another process; no checkpoint is written."""
        self.learner.team.tell(Order.END)
        if self._log is not None:
            self._log.close()
        shutil.rmtree(self.out / _REPLAY, ignore_errors=True)  # gigabytes that a resume makes anew
        self.journal.close()


def follow(settings: RunSettings) -> None:
    """Learn along with the process that leads, until it ends; this one writes nothing.

    Raises:
        LearnError: the batch cannot be shared evenly, or the run was begun with other settings.
    """
    team = make_team(settings.device, settings.rl.batch_size)
    _, learner = _open(settings, team, None)
    learner.load(Path(settings.out))
    learner.follow()


def _open(settings: RunSettings, team: Team, replay: Path | None) -> tuple[Base, Learner]:
    loaded = load_policy(settings.policy, team.device or settings.device)
    base = open_base(loaded, load_contract(settings.contract), settings.rl)
    agent = new_agent(settings.rl, base)
    return base, Learner(settings.rl, agent, base.spec(settings.rl), replay, team)


def new_agent(settings: RLSettings, base: Base) -> Agent:
    """An agent whose first weights derive from the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Agent(settings, base).to(base.loaded.config.device)
