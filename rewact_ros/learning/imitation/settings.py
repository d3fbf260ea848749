"""What a training run is made of."""

from dataclasses import dataclass, field

from rewact_ros.episodes.settings import HelpSettings
from rewact_ros.policy.representations import GRIPPERS, KINDS
from rewact_ros.settings import check, same, setting
from rewact_ros.sim.task import DEFAULT_TASK
from rewact_ros.trials.replacement import ReplacementSettings

BEST_FIGURES = ("loss", "action_l1", "reward_mae", "success")
# What NumPy and torch both take.
LARGEST_SEED = 2**32 - 1


class TrainError(ValueError):
    """Training cannot start or cannot go on."""


_SPLICE = 0.5  # two thirds of what the reward sees stays real


@dataclass(frozen=True)
class TrainSettings:
    """What a run is made of; saved with it, so that it can be resumed and repeated.

    Attributes:
        policy: settings of ``RewACTConfig`` as ``name -> text``.
        start: checkpoint whose weights, configuration and normalisation the run begins with; None:
            a new policy.
        interventions: folders of LeRobotDatasets in which a human corrected the policy; of these
            only human frames teach actions.
        contract: robot contract file whose signature goes into the checkpoint.
        frame_cache: decode every frame once, into a cache; false: anew for every batch.

    Raises:
        TrainError: a setting out of its range.
    """

    dataset: str
    out: str
    episodes: str | None = setting(None, "episodes to use, e.g. 0:24 or 0,3,5:9; default: all")
    val_episodes: str | None = setting(None, "episodes to validate on, e.g. 20:24")
    val_fraction: float = setting(
        0.1, "share of episodes to validate on, drawn by seed", low=0, below=1
    )
    steps: int = setting(5000, "optimiser steps", low=1)
    batch_size: int = setting(32, "frames per step, over all processes", low=1)
    lr: float = setting(3e-4, "peak learning rate", above=0)
    lr_backbone: float = setting(3e-4, "of the image backbone", above=0)
    weight_decay: float = setting(1e-4, "AdamW's weight decay", low=0)
    warmup_steps: int = setting(200, "steps of linear warm-up before the cosine", low=0)
    # Not 0, so that the last steps still count.
    final_lr_ratio: float = setting(0.02, "of the learning rate, where the cosine ends")
    # LeRobot's.
    grad_clip_norm: float = setting(10.0, "of the gradient", above=0)
    # About 1,000 steps of the 5,000: more averages in what was unlearned.
    ema_decay: float = setting(
        0.999,
        "decay of the averaged weights, which are evaluated and exported; 0 for none",
        low=0,
        below=1,
    )
    # A joint that hardly moves must not have its noise blown up to 1.
    min_std: float = setting(
        1e-2, "floor of the normalisation's standard deviations, contract units", above=0
    )
    seed: int = setting(0, "seed of weights, batches, noise and split", low=0, high=LARGEST_SEED)
    mixed_precision: str = setting(
        "no", "what the network computes in (accelerate's)", choices=("no", "bf16", "fp16")
    )
    progress_ramp: bool = setting(False, "label a dataset without next.reward by time, 5 % to 95 %")
    action_frames: str = setting(
        "all", "whose frames teach actions", choices=("all", "human", "autonomous")
    )
    imitate_failures: bool = setting(
        False, "let episodes without success teach actions, whatever demo_is_pad says of them"
    )
    rewind: float = setting(
        0.0, "share of samples played backwards; for --policy n_obs_steps > 1", low=0, below=1
    )
    splice: float | None = setting(
        None,
        "splices that join each batch, per frame of it: pictures of the arm over an earlier scene, "
        f"labelled by the scene; default: {_SPLICE} where the reward reads images and they can be "
        "made, else 0",
        low=0,
        high=4,
    )
    representation: str | None = setting(
        None,
        "what a new policy's action is; default: joints, as the dataset has them",
        choices=KINDS,
    )
    gripper: str = setting(
        "position",
        "how the joint that stays absolute is told: its position, the width between the fingers "
        "in m, or open and closed",
        choices=GRIPPERS,
    )
    gripper_width_m: float = setting(0.08, "of the open gripper, for gripper width", above=0)
    gripper_threshold: float = setting(
        0.5, "of a binary gripper: it is open above, closed below", above=0, below=1
    )
    gripper_hysteresis: float = setting(
        0.1, "of a binary gripper: how far past the threshold it changes", low=0, below=0.5
    )
    gripper_interval_s: float = setting(
        0.3, "of a binary gripper: least time from one change to the next, s", low=0
    )
    absolute_joints: str = setting(
        "gripper", "joints that stay absolute beside relative ones: parts of names, by comma"
    )
    policy: dict[str, str] = field(default_factory=dict)
    start: str | None = None
    interventions: tuple[str, ...] = ()
    # Few interventions would drown in the demonstrations.
    share: float = setting(0.5, "of each batch that comes from the interventions", low=0, below=1)
    # Frames that teach no action, such as the policy's mistakes.
    reward_share: float = setting(
        0.25, "of that, for frames that teach the reward alone", low=0, below=1
    )
    contract: str | None = None
    device: str = setting("auto", "where it trains", choices=("auto", "cpu", "cuda"))
    threads: int = setting(1, "torch threads on a CPU", low=1)
    workers: int = setting(
        0, "processes that assemble batches ahead; 0: the training process does it", low=0
    )
    frame_cache: bool = True
    log_every: int = setting(50, "steps between log entries", low=1)
    val_every: int = setting(500, "steps between validations", low=1)
    save_every: int = setting(500, "steps between checkpoints", low=1)
    task: str = setting(DEFAULT_TASK, "simulated task of the closed-loop tests")
    test_every: int = setting(0, "steps between closed-loop tests in simulation; 0: none", low=0)
    test_episodes: int = setting(20, "scenes of a test", low=1)
    test_seed: int = setting(
        100_000, "first scene's seed; 100000 to 199999 are for choosing", low=0
    )
    best_by: str = setting(
        "auto",
        "what checkpoints/best is chosen by; auto: success where it is tested, else loss",
        choices=("auto", *BEST_FIGURES),
    )
    wandb: str | None = setting(None, "log to this Weights & Biases project too")

    def __post_init__(self) -> None:
        check(self, TrainError)
        if self.start is not None and self.policy:
            raise TrainError(
                f"policy settings {self.policy}: the policy is that of {self.start}; leave them out"
            )
        if self.start is not None and (self.representation or self.gripper != "position"):
            raise TrainError(
                f"representation {self.representation or self.gripper}: the policy is that of "
                f"{self.start}, and speaks as it was trained; leave it out, or train a new policy"
            )
        if self.represents and self.contract is None:
            raise TrainError(
                f"representation {self.representation or self.gripper}: expected the robot's "
                "contract, which names its joints and kinematics; give --contract"
            )
        if self.best_by == "success" and not self.test_every:
            raise TrainError("best_by success: needs closed-loop tests; set test_every")

    @property
    def represents(self) -> bool:
        """Whether a new policy's action is another than the dataset's."""
        return self.representation not in (None, "joints") or self.gripper != "position"

    @property
    def spliced(self) -> int:
        """Splices that join a batch."""
        share = _SPLICE if self.splice is None else self.splice
        return round(share * self.batch_size)

    @property
    def best_figure(self) -> str:
        """The figure that the best checkpoint is chosen by."""
        if self.best_by != "auto":
            return self.best_by
        return "success" if self.test_every else "loss"


# Fine-tuning begins with trained weights: fewer steps do, and a shorter warm-up.
FINE_TUNING = {"steps": 1000, "warmup_steps": 50, "val_fraction": 0.05, "save_every": 250}


@dataclass(frozen=True)
class RoundsSettings:
    """A run of HG-DAgger.

    Attributes:
        training: of each round's fine-tuning; ``start`` is the first policy, ``out`` the run's
            folder, ``interventions`` are used in every round beside the collected ones, episodes
            are of ``task``.
        help: when the human is called.
        replacement: what the test of a round's policy promises.

    Raises:
        TrainError: a setting out of its range, or nothing to start from.
    """

    training: TrainSettings
    rounds: int = setting(2, "rounds of HG-DAgger with the simulated human", low=1)
    episodes: int = setting(40, "collected in each", low=1, option="round_episodes")
    seed: int = setting(60_000, "first scene of the first", low=0, option="round_seed")
    test_episodes: int = setting(
        200, "simulated scenes that compare old and new, at most; fewer keep fewer", low=1
    )
    test_seed: int = same(
        TrainSettings, "test_seed", doc="first of them; 100000 to 199999 are for choosing"
    )
    help: HelpSettings = field(default_factory=HelpSettings)
    replacement: ReplacementSettings = field(default_factory=ReplacementSettings)

    def __post_init__(self) -> None:
        check(self, TrainError)
        if self.training.start is None or self.training.contract is None:
            raise TrainError("rounds need a policy to start from and the robot's contract")
