"""How `rewact bench tasks` trains, the same for every task, and how much it measures.

Another recipe is another line: `FULL = Plan(Recipe(training=replace(Recipe().training, steps=…)))`.
"""

from dataclasses import dataclass, field, replace

from lerobot_training import KINDS

from rewact_ros.episodes.settings import HelpSettings
from rewact_ros.learning.classifier.settings import ClassifierSettings
from rewact_ros.learning.imitation.reward_only_settings import RewardOnlySettings
from rewact_ros.learning.imitation.settings import TrainSettings
from rewact_ros.supervision.calibration import CalibrationSettings

# First scenes. Training has those below 100 000, choosing those below 200 000; nothing was chosen
# on what is reported. Each part has 10 000, a quarter for each of its sources.
DEMOS, JUDGED, CORRECTED = 0, 40_000, 60_000
CALIBRATION, REPORTED = 110_000, 210_000

# The joints are hidden from most frames, so that what acts has looked. Then the pictures alone say
# where the robot is, and shifting them hides that, too: of push-v3's scenes for choosing, 0 of 2
# succeeded with shifts of 4 px, 19 of 20 without.
_POLICY = {
    "dropout": "0.0",
    "random_shift_px": "0",
    "brightness_jitter": "0.1",
    "state_noise_std": "0.02",
    "state_dropout": "0.95",
    "reward_head": "distributional",
    "reward_target": "gaussian",
}
# LeRobot's ACT gets our width, chunk and batch, and a learning rate for a thousand steps instead of
# its own, which are made for a hundred thousand steps on a GPU, and no weights from the internet.
_ACT = KINDS["ACT"] | {"policy.use_amp": "false", "batch_size": "32"}


@dataclass(frozen=True)
class SarmSettings:
    """SARM's sizes, for features of 128 numbers instead of CLIP's 512, and its training."""

    hidden: int = 128
    heads: int = 4
    layers: int = 4
    steps: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """How a policy and its judge are made of demonstrations.

    Attributes:
        training: as `rewact train` takes it; folders and contract are the task's.
        weak_steps: of the same training stopped early, whose policy fails.
        reward: as `rewact train-reward` takes it.
        classifier: as `rewact train-classifier` takes it, on the same demonstrations and verdicts.
        sarm: LeRobot's reward model, on the same demonstrations.
        correction: as `rewact finetune` takes it.
        help: when the scripted human is called; the time-out is the task's.
        act: arguments of `lerobot-train --policy.type=act`.
        rates: β and α; a larger α is taken where there are too few successes for this one.
    """

    training: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            dataset="",
            out="",
            val_fraction=0.05,
            steps=1200,
            lr=5e-4,
            lr_backbone=5e-4,
            val_every=10_000,
            save_every=100,
            mixed_precision="bf16",
            policy=_POLICY,
        )
    )
    weak_steps: int = 300
    reward: RewardOnlySettings = field(
        default_factory=lambda: RewardOnlySettings("", "", ("",), "")
    )
    classifier: ClassifierSettings = field(
        default_factory=lambda: ClassifierSettings(
            ("",), "", arch="small_cnn", steps=600, test_fraction=0.0, mixed_precision="bf16"
        )
    )
    sarm: SarmSettings = field(default_factory=SarmSettings)
    correction: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            dataset="",
            out="",
            val_fraction=0.05,
            steps=400,
            warmup_steps=50,
            val_every=10_000,
            save_every=100,
            mixed_precision="bf16",
            start="",
        )
    )
    help: HelpSettings = field(default_factory=HelpSettings)
    act: dict[str, str] = field(default_factory=lambda: dict(_ACT))
    rates: CalibrationSettings = field(default_factory=CalibrationSettings)


@dataclass(frozen=True)
class Plan:
    """The recipe, and how much is measured of each task.

    Attributes:
        demonstrations: successes of the task's expert.
        patience: time-out of an episode, in median lengths of a demonstration.
        scenes: reported, of the policy and of ACT.
        least: successes and failures that a judge is judged on; where the policy gives fewer of
            one kind, others' roll-outs are added.
        judged: roll-outs with a verdict.
        calibrated: scenes that the thresholds are chosen on.
        corrected: episodes with help at hand.
        corrected_scenes: that the policy is tried on before and after these.
    """

    recipe: Recipe = field(default_factory=Recipe)
    demonstrations: int = 50
    patience: float = 2.0
    scenes: int = 100
    least: int = 20
    judged: int = 20
    calibrated: int = 80
    corrected: int = 30
    corrected_scenes: int = 50


FULL = Plan()
_FEW = {"steps": 60, "save_every": 20}


def quick() -> Plan:
    """Sizes that only show that every stage runs."""
    recipe = FULL.recipe
    return Plan(
        Recipe(
            training=replace(recipe.training, batch_size=8, **_FEW),
            weak_steps=20,
            reward=replace(recipe.reward, steps=50),
            sarm=SarmSettings(steps=20),
            classifier=replace(recipe.classifier, steps=20, eval_every=10, val_fraction=0.34),
            correction=replace(recipe.correction, batch_size=8, **(_FEW | {"steps": 10})),
            act={**recipe.act, "batch_size": "2"},
            rates=CalibrationSettings(beta=0.25, alpha=0.75),
        ),
        demonstrations=6,
        scenes=4,
        least=5,
        judged=6,
        calibrated=4,
        corrected=2,
        corrected_scenes=2,
    )
