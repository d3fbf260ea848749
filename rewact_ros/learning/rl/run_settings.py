"""What a learning run and its episodes are made of."""

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rewact_ros.episodes.settings import HelpSettings
from rewact_ros.reward.composition import CompositionError, CompositionSettings
from rewact_ros.runs import LearnOptions
from rewact_ros.settings import check, same, setting
from rewact_ros.sim.human import Traits
from rewact_ros.sim.task import DEFAULT_TASK
from rewact_ros.supervision.alarms import limit_setting
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.escalation import EscalationSettings, Ladder
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import FeatureDistance, SignalSettings
from rewact_ros.trials.replacement import ReplacementSettings

from .settings import LearnError, RLSettings

if TYPE_CHECKING:
    from rewact_ros.reward.classifier import LoadedClassifier

    from .reward_judge import RewardJudge

SUCCESS_BY = ("progress", "classifier", "environment")


@dataclass(frozen=True)
class SimEpisodeSettings:
    """How an episode ends, and when a human is called.

    Attributes:
        stall_s, drawdown: of the learned progress, above which a human is called.
        human: how the human differs from a machine; None: nobody helps.
        success_by: ``classifier`` must agree with the progress, as in the supervisor;
            ``environment`` is the simulation, once it has succeeded for half a second.
        success_threshold, success_hold: as the supervisor's parameters.
        reward: how the classifier's probabilities become rewards; None: only a success earns.

    Raises:
        LearnError: a number out of range, or a classifier that is missing or not asked.
    """

    completion: float = same(Thresholds, "completion")
    # Early, so that recoveries are shown and not only finishes.
    stall_s: float = limit_setting("stall", default=2.0, low=0, high=math.inf)
    drawdown: float = limit_setting("drawdown", default=0.25, low=0, high=math.inf)
    hold_s: float = same(Ladder, "hold_s", default=0.3)
    limit_s: float = same(
        HelpSettings, "limit_s", doc="time-out of an episode, of the time in which the policy leads"
    )
    human: Traits | None = field(default_factory=Traits)
    success_by: str = setting("progress", "what tells success", choices=SUCCESS_BY)
    classifier: str = setting("", "checkpoint of a success classifier, for success or reward")
    success_threshold: float = setting(0.5, "probability of the classifier that counts")
    success_hold: int = setting(5, "how many in a row must count")
    reward: CompositionSettings | None = None

    def __post_init__(self) -> None:
        check(self, LearnError)
        asked = self.success_by == "classifier" or bool(self.reward and self.reward.uses_model)
        if asked and not self.classifier:
            raise LearnError(
                "classifier: none is given, and success or reward asks one; give the folder of a "
                "checkpoint (`rewact train-classifier`)"
            )
        if self.classifier and not asked:
            raise LearnError(
                f"classifier {self.classifier}: nothing asks it; let it tell success (success_by "
                "classifier), or give a reward that it enters"
            )
        try:
            self._gate()
        except CompositionError as error:
            raise LearnError(f"success_threshold, success_hold: {error}") from error

    @property
    def by_environment(self) -> "SimEpisodeSettings":
        """The same, with the environment's success and reward alone."""
        return replace(self, success_by="environment", classifier="", reward=None)

    def judge(self, classifier: "LoadedClassifier | None") -> "RewardJudge":
        """Of rewards, and of the classifier's part in success.

        Args:
            classifier: what lies in ``classifier``.
        """
        from .reward_judge import RewardJudge  # torch

        gate = self._gate() if self.success_by == "classifier" else None
        return RewardJudge(self.reward, classifier if self.classifier else None, gate)

    def _gate(self) -> ClassifierGate:
        return ClassifierGate(self.success_threshold, self.success_hold)

    def monitor(
        self, signals: SignalSettings, distance: FeatureDistance | None = None
    ) -> EpisodeMonitor:
        """Of one episode."""
        thresholds = Thresholds(
            completion=self.completion, stall_s=self.stall_s, drawdown=self.drawdown
        )
        hold_s = self.hold_s if self.human else float("inf")
        ladder = Ladder(hold_s=hold_s)
        return EpisodeMonitor(thresholds, signals, EscalationSettings(default=ladder), distance)


@dataclass(frozen=True)
class RunSettings:
    """What every run is made of.

    Attributes:
        out: folder of the run.
        policy: checkpoint folder of the base, best one that was fine-tuned on interventions.
        contract: file of the robot's.
        rl: algorithm and learner.

    Raises:
        LearnError: a number out of range.
    """

    out: str
    policy: str
    contract: str
    rl: RLSettings = field(default_factory=RLSettings)
    demos: str = same(LearnOptions, "demos")
    demo_episodes: int = same(LearnOptions, "demo_episodes")
    target: float = same(LearnOptions, "target")
    video_every: int = same(LearnOptions, "video_every")
    # Of updates are done again after a kill; a shorter time writes more.
    save_every_s: float = setting(60.0, "longest time between checkpoints", "s", 0, 3600)
    device: str = setting("auto", "where it learns: auto, cpu or cuda")
    wandb: str | None = setting(None, "log to this Weights & Biases project too")

    def __post_init__(self) -> None:
        check(self, LearnError)


@dataclass(frozen=True)
class LearnSettings(RunSettings):
    """A run on the fast path, of a simulated task.

    Attributes:
        episode: how episodes end, and who helps.
        environment_episodes: stage 1 of two.
        replacement: what the test of a version promises that is to be the best one.

    Raises:
        LearnError: a number out of range.
    """

    episode: SimEpisodeSettings = field(default_factory=SimEpisodeSettings)
    replacement: ReplacementSettings = field(default_factory=ReplacementSettings)
    episodes: int = setting(200, "episodes of the run", low=0, high=1_000_000)
    environment_episodes: int = setting(
        0, "first episodes that the simulation judges and rewards", low=0, high=1_000_000
    )
    # Scenes from 100 000 on are for choosing and for reported figures.
    first_seed: int = setting(50_000, "scene of the first episode", low=0, high=99_999)
    eval_every: int = setting(50, "episodes between evaluations; 0: none", low=0, high=1_000_000)
    # Enough for a curve; whether a version replaces the best one takes more, mostly.
    eval_episodes: int = setting(20, "scenes of an evaluation, at least", low=1, high=100_000)
    eval_most: int = setting(
        100,
        "scenes of an evaluation while it is open whether the best version is replaced, at most",
        low=1,
        high=100_000,
    )
    task: str = setting(DEFAULT_TASK, "simulated task")
    eval_seed: int = setting(
        150_000,
        "first scene of an evaluation; 100000 to 199999 are for choosing",
        low=100_000,
        high=10_000_000,
    )
