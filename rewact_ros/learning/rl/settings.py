"""What a fine-tuning run by reinforcement learning is made of; names as LeRobot's SAC has them."""

import difflib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml
from rewact_ros.settings import check, setting
from rewact_ros.text import reason

from .algorithm import Algorithm
from .algorithms import ALGORITHMS, DEFAULT

# Torch takes one number for a seed. Runs of neighbouring seeds share no draw before their update or
# episode of this number.
SEED_STRIDE = 1_000_003


class LearnError(ValueError):
    """Learning cannot start or cannot go on; says what, where, expected, got, mend."""


@dataclass(frozen=True)
class RLSettings:
    """Everything that decides which weights come out; see docs/rl.md for the formulas.

    Attributes:
        imitation_steps: as far as the actor's network has them; acting ensembles them over time, as
            the base's are, so that a decision rests on several observations. At least those of a
            decision.
        speeds: how fast a chunk may be executed, of the pace that was demonstrated; each is a
            candidate of its own. The first, which is 1, leads; the others have to beat it by Q.
        gripper_joints: joints that contain one of these words are bounded apart.
        image_size: (height, width) px that critic and small actor see.

    Raises:
        LearnError: a setting out of its range, or two that contradict each other.
    """

    algorithm: str = setting(
        DEFAULT,
        "; ".join(f"{name}: {kind.doc}" for name, kind in ALGORITHMS.items()),
        choices=tuple(ALGORITHMS),
    )
    seed: int = setting(0, "of weights, batches and exploration")
    # At 20 Hz a quarter of a second: longer reacts later, credits further.
    act_chunk_size: int = setting(5, "robot steps of an actor's chunk", low=1, high=1000)
    enable_q_chunking: bool = setting(
        False,
        "decide once per act_chunk_size steps and let the critic judge the whole executed "
        "chunk; else once per step",
    )
    # More carry a late reward back faster, but rest on what acted then.
    n_step: int = setting(
        5, "robot steps whose rewards a target sums before it asks the critic", low=1, high=1000
    )
    use_act_actor: bool = setting(
        False, "the actor is an ACT transformer, where the algorithm has one; else a small network"
    )
    use_sequence_act_actor: bool = setting(
        False, "the actor sees obs_history_length observations, not one"
    )
    obs_history_length: int = setting(
        3, "observations of a sequence, one robot step apart", low=1, high=1000
    )
    imitation_steps: int = setting(
        1, "robot steps of an ACT actor's chunk that imitation teaches", low=1, high=1000
    )
    act_from_base: bool = setting(True, "the ACT actor begins with the base checkpoint's weights")
    act_dim_model: int = setting(
        64, "of an ACT actor that does not begin with the base's weights", low=1, high=10_000
    )
    act_n_heads: int = setting(4, "likewise", low=1, high=10_000)
    act_dim_feedforward: int = setting(128, "likewise", low=1, high=10_000)
    act_n_encoder_layers: int = setting(1, "likewise", low=0, high=64)
    act_n_decoder_layers: int = setting(1, "likewise", low=1, high=64)
    action_parts: dict[str, int] | None = setting(
        None,
        "named slices of the action with heads of their own, as RewACTConfig has them; likewise",
    )
    base_candidate: bool = setting(
        True, "the base's own action competes by Q, in acting and in the target"
    )
    actor_leads: bool = setting(
        False,
        "acting follows the actor unless another candidate beats it; else it follows the base",
    )
    actor_in_target: bool = setting(
        True,
        "the target asks the actor too what it would do next; else the base alone, which is "
        "cheaper and never imagines",
    )
    # Each costs a look of the critics per decision and per target.
    num_candidates: int = setting(
        8,
        "chunks of the base that compete, its own among them, where the algorithm draws others",
        low=1,
        high=256,
    )
    # Less offers the critics no choice, more leaves what was shown.
    candidate_noise: float = setting(
        0.2,
        "spread of candidates where the base has no latent to sample, in standard deviations "
        "of its action",
        low=0.0,
        high=100.0,
    )
    # Higher trusts critics less, so that they change less.
    advantage_gate: float = setting(
        0.5,
        "another candidate than the leading one must be better by so many standard "
        "deviations of the ensemble's opinions",
        low=0.0,
        high=100.0,
    )
    speeds: tuple[float, ...] = (1.0,)
    exploration: float = setting(
        0.1,
        "probability, per decision in training, of acting by a candidate drawn at random "
        "whatever Q says",
        low=0.0,
        high=1.0,
    )
    exploration_half_life: int = setting(
        0,
        "updates after which exploring, noise and draws alike, has halved; 0: it stays",
        low=0,
        high=100_000_000,
    )
    # More can correct more, and explores more roughly.
    residual_bound: float = setting(0.05, "of a correction, in joint units", low=0.0, high=10.0)
    gripper_joints: tuple[str, ...] = ("gripper", "finger", "hand")
    # Masked: above 0, exploring may open a gripper that holds.
    gripper_bound: float = setting(
        0.0, "of a correction of the gripper joints; 0: they are masked", low=0.0, high=10.0
    )
    # LeRobot's, as the rates below: at 20 Hz half is left after 3.4 s.
    discount: float = setting(0.99, "per robot step", low=0.0, high=0.9999)
    critic_lr: float = setting(3e-4, "of Adam", low=1e-8, high=1.0)
    actor_lr: float = setting(3e-4, "of Adam", low=1e-8, high=1.0)
    temperature_lr: float = setting(3e-4, "of Adam", low=1e-8, high=1.0)
    # LeRobot's.
    critic_target_update_weight: float = setting(
        0.005, "share of the critic that its slow copy takes per update", low=1e-6, high=1.0
    )
    # The least of two drawn from several, as REDQ has it (arXiv:2101.05982): the least of all would
    # be too low. The spread of all is what `advantage_gate` counts in.
    num_critics: int = setting(4, "size of the ensemble", low=1, high=256)
    num_subsample_critics: int = setting(
        2, "size of its random subset whose minimum is the target", low=1, high=256
    )
    # LeRobot's is 1: entropy would outweigh a success of 1.
    temperature_init: float = setting(0.01, "weight of the entropy at first", low=1e-8, high=1e6)
    target_entropy: float | None = setting(
        None, "nats per chunk; none: minus half of steps times dimensions"
    )
    use_backup_entropy: bool = setting(
        False, "count the entropy of the next action in the target too"
    )
    # Below, log pi only grows while nothing more is explored.
    log_std_min: float = setting(-5.0, "of the Gaussian before the tanh", low=-20.0, high=2.0)
    # Above, the tanh presses every draw to the bounds.
    log_std_max: float = setting(0.0, "likewise", low=-20.0, high=2.0)
    # Imitation leads while the critics know little and fades as they learn: slower holds to the
    # human for longer.
    bc_initial_weight: float = setting(0.5, "of imitating the human, at first", low=0.0, high=1.0)
    bc_final_weight: float = setting(
        0.01, "of imitating the human, after bc_decay_steps", low=0.0, high=1.0
    )
    bc_decay_steps: int = setting(
        50_000, "updates over which that weight falls exponentially", low=1, high=100_000_000
    )
    actor_ema_decay: float = setting(
        0.0,
        "of the averaged weights of the actor, which act; 0: the newest act",
        low=0.0,
        high=0.99999,
    )
    q_weight: float = setting(1.0, "of the critics' value in the actor's loss", low=0.0, high=100.0)
    own_weight: float = setting(
        0.0,
        "of imitating the policy's own commands in turns that it ended by success, where the "
        "critics hold them to be better than what it would do now",
        low=0.0,
        high=100.0,
    )
    grad_clip_norm: float = setting(10.0, "of each network", low=1e-8, high=1e6)
    mixed_precision: str = setting("no", "of the training of an ACT actor", choices=("no", "bf16"))
    # An update takes 57 ms on one core (docs/rl.md), a robot step 50.
    batch_size: int = setting(
        64,
        "half of it from demonstrations and interventions, where there are any",
        low=1,
        high=100_000_000,
    )
    actor_online_share: float = setting(
        0.5,
        "of an actor's batch from all that the robot did; the rest is demonstrations and "
        "interventions",
        low=0.0,
        high=1.0,
    )
    intervention_share: float | None = setting(
        None, "of that rest from interventions; none: as it comes", low=0.0, high=1.0
    )
    # More learns more of each step, and overfits a small buffer sooner.
    utd_ratio: float = setting(
        1.0, "updates per robot step; the learner never runs ahead of it", low=0.0, high=100.0
    )
    # Before its values agree with what came.
    utd_ratio_uncalibrated: float = setting(
        0.5, "the same until the critic is calibrated", low=0.0, high=100.0
    )
    # Fewer may agree by chance, more slow the beginning.
    calibration_episodes: int = setting(
        10,
        "newest episodes whose first decisions' values tell whether the critic is calibrated",
        low=1,
        high=100_000_000,
    )
    # Of a success, which returns about 1.
    calibrated_gap: float = setting(
        0.2, "it is once they lie within this of what came, on average", low=0.0, high=1e6
    )
    online_step_before_learning: int = setting(
        500, "robot steps before the first update", low=0, high=100_000_000
    )
    critic_warmup_updates: int = setting(
        500, "updates of the critic alone, while the base acts", low=0, high=100_000_000
    )
    # TD3's delay (arXiv:1802.09477).
    policy_update_freq: int = setting(2, "critic updates per actor update", low=1, high=64)
    image_size: tuple[int, int] = (48, 48)  # replay and update cost grow with its square
    # 6 % of the width; DrQ's 4 of 84 are 5 % (arXiv:2004.13649).
    random_shift_px: int = setting(
        3, "largest shift of a training image, of image_size", "px", low=0, high=64
    )
    image_encoder_hidden_dim: int = setting(64, "features per camera", low=1, high=10_000)
    hidden_dim: int = setting(256, "width of critics and small actor", low=1, high=10_000)
    success_reward: float = setting(1.0, "at a verified success", low=1e-8, high=1e6)
    # Any leaves the best policy (docs/rl.md); less guides less.
    shaping_weight: float = setting(
        0.5,
        "kappa of the potential-based shaping by the frozen reward head; 0: none",
        low=0.0,
        high=100.0,
    )
    # 0.8 GB of disk with the other (docs/rl.md); 33 min.
    online_buffer_capacity: int = setting(
        40_000, "robot steps; the oldest leave", low=100, high=100_000_000
    )
    offline_buffer_capacity: int = setting(20_000, "likewise", low=100, high=100_000_000)

    def __post_init__(self) -> None:
        """Check ranges and combinations."""
        for name in ("gripper_joints", "image_size", "speeds"):  # JSON has lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check(self, LearnError)
        if len(self.image_size) != 2 or min(self.image_size) < 16:
            raise LearnError(
                f"image_size: expected (height, width) of at least 16, got {self.image_size}"
            )
        if self.num_subsample_critics > self.num_critics:
            raise LearnError(
                f"num_subsample_critics: expected at most num_critics ({self.num_critics}), "
                f"got {self.num_subsample_critics}"
            )
        if not self.log_std_min < self.log_std_max:
            raise LearnError(
                f"log_std_min: expected less than log_std_max ({self.log_std_max}), "
                f"got {self.log_std_min}"
            )
        if self.n_step < self.steps:
            raise LearnError(
                f"n_step: expected at least the {self.steps} steps of a decision, "
                f"got {self.n_step}; raise it, or lower act_chunk_size"
            )
        self._check_algorithm()

    def _check_speeds(self) -> None:
        known = bool(self.speeds) and all(0.25 <= speed <= 8 for speed in self.speeds)
        if not known or self.speeds[0] != 1 or len(set(self.speeds)) < len(self.speeds):
            raise LearnError(
                f"speeds: expected 1 and then others of 0.25 to 8, none twice, got {self.speeds}"
            )
        if self.speeds == (1.0,):
            return
        if self.has_actor and self.horizon < self.steps * max(self.speeds):
            raise LearnError(
                f"speeds: an actor at {max(self.speeds):g} needs {self.steps * max(self.speeds):g} "
                f"steps of its chunk, it has {self.horizon}; use_act_actor and raise "
                "imitation_steps, or lower act_chunk_size"
            )
        if self.own_weight:
            raise LearnError(
                "own_weight: what was executed at another speed cannot be imitated; set speeds "
                "to [1]"
            )

    def _check_algorithm(self) -> None:
        self._check_speeds()
        needs = self.kind.needs
        if needs and not any(getattr(self, name) for name in needs):
            raise LearnError(f"{', '.join(needs)}: {self.kind.why}")
        if self.use_act_actor and not self.kind.has_act_actor:
            able = ", ".join(name for name, kind in ALGORITHMS.items() if kind.has_act_actor)
            raise LearnError(
                f"use_act_actor: only {able} has an ACT actor, the algorithm is {self.algorithm}"
            )

    @property
    def kind(self) -> Algorithm:
        """What the algorithm does differently from the others."""
        return ALGORITHMS[self.algorithm]

    @property
    def steps(self) -> int:
        """Robot steps per decision, which the critic judges together."""
        return self.act_chunk_size if self.enable_q_chunking else 1

    @property
    def least_parameters(self) -> int:
        """Parameters that the agent's networks have at least: the matrices that only grow."""
        critics = self.num_critics * self.hidden_dim**2
        if not self.use_act_actor:
            return critics
        layer = 4 * self.act_dim_model**2 + 2 * self.act_dim_model * self.act_dim_feedforward
        return critics + (self.act_n_encoder_layers + self.act_n_decoder_layers) * layer

    @property
    def history(self) -> int:
        """Observations that the actor sees."""
        return self.obs_history_length if self.use_sequence_act_actor else 1

    @property
    def candidates(self) -> int:
        """Chunks of the base that are kept per observation: its plan at each speed, others."""
        further = self.num_candidates - 1 if self.kind.candidates else 0
        return len(self.speeds) + further

    @property
    def horizon(self) -> int:
        """Robot steps that an actor's chunk may have."""
        return max(self.steps, self.imitation_steps) if self.use_act_actor else self.steps

    @property
    def has_actor(self) -> bool:
        """Whether anything but the critic is trained."""
        return self.kind.has_actor

    def warm(self, updates: int) -> bool:
        """Whether the critics have had their updates before anybody acts by them."""
        return updates >= self.critic_warmup_updates

    def exploring(self, update: int) -> float:
        """Share of all exploration that is left at an update."""
        half = self.exploration_half_life
        return 0.5 ** (update / half) if half else 1.0

    def bc_weight(self, update: int) -> float:
        """Weight of imitation at an update: exponential from the initial to the final one."""
        share = min(update / self.bc_decay_steps, 1.0)
        if self.bc_final_weight == 0 or self.bc_initial_weight == 0:  # no exponential reaches 0
            return self.bc_initial_weight + share * (self.bc_final_weight - self.bc_initial_weight)
        return self.bc_initial_weight * (self.bc_final_weight / self.bc_initial_weight) ** share

    def entropy_goal(self, dimensions: int) -> float:
        """Target entropy of a whole decision of ``dimensions`` action dimensions per step."""
        if self.target_entropy is not None:
            return self.target_entropy
        return self.kind.entropy * self.steps * dimensions


def preset(algorithm: str, **changes: Any) -> RLSettings:
    """The usual settings of an algorithm, with changes.

    Raises:
        LearnError: no such algorithm or setting, or a value out of range.
    """
    known = [f.name for f in fields(RLSettings)]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise LearnError(f"setting {name}: there is no such setting{hint}")
    if algorithm not in ALGORITHMS:
        raise LearnError(f"algorithm: expected one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    if changes.get("use_act_actor") is False:  # a small network's chunk is too short for others
        changes = {"speeds": (1.0,), **changes}
    usual = RLSettings(algorithm=algorithm, **ALGORITHMS[algorithm].usual)
    return replace(usual, **changes)


def parse_changes(texts: list[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` texts, the values as JSON.

    Raises:
        LearnError: not of that form.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            separator = ""
        if not separator:
            raise LearnError(f"{text}: expected NAME=VALUE, e.g. residual_bound=0.03")
    return changes


def load_settings(file: Path, usual: dict[str, object] | None = None) -> RLSettings:
    """Read a configuration: a JSON object of settings, ``algorithm`` among them.

    Args:
        file: what to read.
        usual: of what it does not name, before the preset.

    Raises:
        LearnError: no such file, no JSON object, or a setting that is wrong.
    """
    try:
        content = strict_yaml.load_json(file)
    except (OSError, strict_yaml.YamlError) as error:
        why = reason(error, file)
        raise LearnError(f"{file}: expected a JSON object of settings: {why}") from error
    return settings_from(content, str(file), usual)


def settings_from(
    content: dict[str, object], where: str, usual: dict[str, object] | None = None
) -> RLSettings:
    """As ``load_settings``, from what stands in the file ``where``."""
    try:
        given = dict(content)
        return preset(str(given.pop("algorithm")), **{**(usual or {}), **given})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, LearnError):
            raise
        what = f"no key {error}" if isinstance(error, KeyError) else error
        raise LearnError(f"{where}: expected a JSON object of settings: {what}") from error


def settings_text(settings: RLSettings) -> str:
    """As ``load_settings`` reads it."""
    return json.dumps(asdict(settings), indent=2) + "\n"
