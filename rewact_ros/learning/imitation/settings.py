"""What a training run is made of."""

import math
from dataclasses import dataclass, field

BEST_FIGURES = ("loss", "action_l1", "reward_mae", "success")
# What NumPy and torch both take.
LARGEST_SEED = 2**32 - 1


class TrainError(ValueError):
    """Training cannot start or cannot go on."""


def check_seed(seed: int) -> None:
    """Raise TrainError where a generator would refuse it, in words that name no option."""
    if not 0 <= seed <= LARGEST_SEED:
        raise TrainError(f"seed: expected 0 to {LARGEST_SEED}, got {seed}")


@dataclass(frozen=True)
class TrainSettings:
    """What a run is made of; saved with it, so that it can be resumed and repeated.

    Attributes:
        dataset: folder of a LeRobotDataset v3.
        out: folder of the run (checkpoints, TensorBoard log).
        episodes: such as ``0:24``; None for all.
        val_episodes: such as ``20:24``; None: ``val_fraction`` of the episodes, drawn by ``seed``.
        steps: optimiser steps.
        batch_size: frames per step, over all processes.
        lr_backbone: learning rate of the image backbone.
        warmup_steps: linear rise before the cosine fall to ``final_lr_ratio``.
        ema_decay: of the averaged weights, which are the ones evaluated and exported; 0: none.
        min_std: floor of the normalisation's standard deviations, contract units.
        mixed_precision: ``no``, ``bf16`` or ``fp16`` (accelerate's).
        progress_ramp: label a dataset without ``next.reward`` by time.
        action_frames: whose frames teach actions: ``all``, ``human`` or ``autonomous``.
        imitate_failures: let episodes that never succeed teach actions, whatever ``demo_is_pad``
            says of them.
        rewind: probability that a sample shows its episode played backwards (n_obs_steps > 1).
        policy: settings of ``RewACTConfig`` as ``name -> text``.
        start: checkpoint whose weights, configuration and normalisation the run begins with; None:
            a new policy.
        interventions: folders of LeRobotDatasets in which a human corrected the policy; of these
            only human frames teach actions.
        share: of each batch that comes from the interventions.
        reward_share: of that share, how much goes to frames that teach the reward alone.
        contract: robot contract file whose signature goes into the checkpoint.
        threads: torch threads of a CPU run.
        workers: processes that assemble batches ahead; 0: the training process does it.
        frame_cache: decode every frame once, into a cache; false: anew for every batch.
        val_every, save_every, test_every: steps between validations, checkpoints and closed-loop
            tests in simulation (0: none).
        test_episodes, test_seed: scenes of a test; seeds 100 000 to 199 999 are for choosing.
        best_by: figure that ``checkpoints/best`` is chosen by: ``loss``, ``action_l1``,
            ``reward_mae``, ``success``, or ``auto``: success where it is tested, else loss.
        wandb: Weights & Biases project that is logged to beside TensorBoard.

    Raises:
        TrainError: a setting out of its range.
    """

    dataset: str
    out: str
    episodes: str | None = None
    val_episodes: str | None = None
    val_fraction: float = 0.1
    steps: int = 5000
    batch_size: int = 32
    lr: float = 3e-4
    lr_backbone: float = 3e-4
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    final_lr_ratio: float = 0.02  # not 0, so that the last steps still count
    grad_clip_norm: float = 10.0  # LeRobot's
    ema_decay: float = 0.999  # about 1,000 steps of the 5,000: more averages in what was unlearned
    min_std: float = 1e-2  # a joint that hardly moves must not have its noise blown up to 1
    seed: int = 0
    mixed_precision: str = "no"
    progress_ramp: bool = False
    action_frames: str = "all"
    imitate_failures: bool = False
    rewind: float = 0.0
    policy: dict[str, str] = field(default_factory=dict)
    start: str | None = None
    interventions: tuple[str, ...] = ()
    share: float = 0.5  # few interventions would drown in the demonstrations
    reward_share: float = 0.25  # frames that teach no action, such as the policy's mistakes
    contract: str | None = None
    device: str = "auto"
    threads: int = 1
    workers: int = 0
    frame_cache: bool = True
    log_every: int = 50
    val_every: int = 500
    save_every: int = 500
    test_every: int = 0
    test_episodes: int = 20
    test_seed: int = 100_000
    best_by: str = "auto"
    wandb: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        zero = ("warmup_steps", "weight_decay", "workers", "test_every", "test_seed")
        one = ("steps", "batch_size", "threads", "log_every", "val_every", "save_every")
        for name, low in {
            **dict.fromkeys(zero, 0),
            **dict.fromkeys(one, 1),
            "test_episodes": 1,
        }.items():
            if not low <= getattr(self, name) < math.inf:
                raise TrainError(f"{name}: expected at least {low}, got {getattr(self, name)}")
        for name in ("lr", "lr_backbone", "min_std", "grad_clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise TrainError(f"{name}: expected more than 0, got {getattr(self, name)}")
        check_seed(self.seed)
        for name in ("val_fraction", "ema_decay", "rewind", "share", "reward_share"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainError(f"{name}: expected 0 <= x < 1, got {getattr(self, name)}")
        for name, choices in (
            ("mixed_precision", ("no", "bf16", "fp16")),
            ("device", ("auto", "cpu", "cuda")),
            ("action_frames", ("all", "human", "autonomous")),
            ("best_by", ("auto", *BEST_FIGURES)),
        ):
            if getattr(self, name) not in choices:
                got = getattr(self, name)
                raise TrainError(f"{name}: expected one of {', '.join(choices)}, got {got}")
        if self.start is not None and self.policy:
            raise TrainError(
                f"policy settings {self.policy}: the policy is that of {self.start}; leave them out"
            )
        if self.best_by == "success" and not self.test_every:
            raise TrainError("best_by success: needs closed-loop tests; set test_every")

    @property
    def best_figure(self) -> str:
        """The figure that the best checkpoint is chosen by."""
        if self.best_by != "auto":
            return self.best_by
        return "success" if self.test_every else "loss"
