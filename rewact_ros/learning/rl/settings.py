"""What a fine-tuning run by reinforcement learning is made of; names as LeRobot's SAC has them."""

import difflib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from rewact_ros import strict_yaml
from rewact_ros.text import reason

from .algorithm import Algorithm
from .algorithms import ALGORITHMS, DEFAULT


class LearnError(ValueError):
    """Learning cannot start or cannot go on; says what, where, expected, got, mend."""


@dataclass(frozen=True)
class RLSettings:
    """Everything that decides which weights come out; see docs/rl.md for the formulas.

    Attributes:
        algorithm: name in ``ALGORITHMS``; each has a file that says what it does.
        seed: of weights, batches and exploration.
        act_chunk_size: robot steps of an actor's chunk.
        enable_q_chunking: decide once per ``act_chunk_size`` steps and let the critic judge the
            whole executed chunk; else once per step.
        n_step: robot steps whose rewards a target sums before it asks the critic.
        use_act_actor: the actor is an ACT transformer, where the algorithm has one; else a small
            network.
        use_sequence_act_actor: the actor sees ``obs_history_length`` observations, not one.
        obs_history_length: observations of a sequence, one robot step apart.
        imitation_steps: robot steps of an ACT actor's chunk that imitation teaches, as far as its
            network has them; acting ensembles them over time, as the base's are, so that a decision
            rests on several observations. At least those of a decision.
        act_from_base: the ACT actor begins with the base checkpoint's weights.
        act_dim_model, act_n_heads, act_dim_feedforward, act_n_encoder_layers,
        act_n_decoder_layers: of an ACT actor that does not begin with the base's.
        action_parts: named slices of the action with heads of their own, as ``RewACTConfig`` has
            them; of an ACT actor that does not begin with the base's.
        base_candidate: the base's own action competes by Q, in acting and in the target.
        actor_leads: acting follows the actor unless another candidate beats it; else it follows the
            base.
        actor_in_target: the target asks the actor too what it would do next; else the base alone,
            which is cheaper and never imagines.
        num_candidates: chunks of the base that compete, its own among them, where the
            algorithm draws others.
        candidate_noise: spread of candidates where the base has no latent to sample, in standard
            deviations of its action.
        advantage_gate: another candidate than the leading one must be better by so many standard
            deviations of the ensemble's opinions.
        speeds: how fast a chunk may be executed, of the pace that was demonstrated; each is a
            candidate of its own. The first, which is 1, leads; the others have to beat it by Q.
        exploration: probability, per decision in training, of acting by a candidate drawn at random
            whatever Q says.
        exploration_half_life: updates after which exploring, noise and draws alike, has halved; 0:
            it stays.
        residual_bound: of a correction, in joint units.
        gripper_joints: joints that contain one of these words are bounded apart.
        gripper_bound: of a correction of those; 0: they are masked.
        discount: per robot step.
        critic_lr, actor_lr, temperature_lr: of Adam.
        critic_target_update_weight: share of the critic that its slow copy takes per update.
        num_critics, num_subsample_critics: size of the ensemble, and of the random subset whose
            minimum is the target.
        temperature_init: weight of the entropy at first.
        target_entropy: nats per chunk; None: minus half of steps times dimensions.
        use_backup_entropy: count the entropy of the next action in the target too.
        log_std_min, log_std_max: of the Gaussian before the tanh.
        bc_initial_weight, bc_final_weight, bc_decay_steps: of imitating the human, falling
            exponentially over so many updates.
        actor_ema_decay: of the averaged weights of the actor, which act; 0: the newest act.
        q_weight: of the critics' value in the actor's loss.
        own_weight: of imitating the policy's own commands in turns that it ended by success, where
            the critics hold them to be better than what it would do now.
        grad_clip_norm: of each network.
        mixed_precision: ``no``, or ``bf16`` in the training of an ACT actor.
        batch_size: half of it from demonstrations and interventions, where there are any.
        actor_online_share: of an actor's batch from all that the robot did; the rest is
            demonstrations and interventions.
        intervention_share: of that rest from interventions; None: as it comes.
        utd_ratio: updates per robot step; the learner never runs ahead of it.
        utd_ratio_uncalibrated: the same until the critic is calibrated.
        calibration_episodes, calibrated_gap: the critic is calibrated once its values of the
            newest so many episodes' first decisions lie within this of what came, on average.
        online_step_before_learning: robot steps before the first update.
        critic_warmup_updates: updates of the critic alone, while the base acts.
        policy_update_freq: critic updates per actor update.
        image_size: (height, width) px that critic and small actor see.
        random_shift_px: largest shift of a training image, px of ``image_size``.
        image_encoder_hidden_dim: features per camera.
        hidden_dim: width of critics and small actor.
        success_reward: at a verified success.
        shaping_weight: kappa of the potential-based shaping by the frozen reward head; 0: none.
        online_buffer_capacity, offline_buffer_capacity: robot steps; the oldest leave.

    Raises:
        LearnError: a setting out of its range, or two that contradict each other.
    """

    algorithm: str = DEFAULT
    seed: int = 0
    act_chunk_size: int = 5
    enable_q_chunking: bool = False
    n_step: int = 5
    use_act_actor: bool = False
    use_sequence_act_actor: bool = False
    obs_history_length: int = 3
    imitation_steps: int = 1
    act_from_base: bool = True
    act_dim_model: int = 64
    act_n_heads: int = 4
    act_dim_feedforward: int = 128
    act_n_encoder_layers: int = 1
    act_n_decoder_layers: int = 1
    action_parts: dict[str, int] | None = None
    base_candidate: bool = True
    actor_leads: bool = False
    actor_in_target: bool = True
    num_candidates: int = 8
    candidate_noise: float = 0.2
    advantage_gate: float = 0.5
    speeds: tuple[float, ...] = (1.0,)
    exploration: float = 0.1
    exploration_half_life: int = 0
    residual_bound: float = 0.05
    gripper_joints: tuple[str, ...] = ("gripper", "finger", "hand")
    gripper_bound: float = 0.0
    discount: float = 0.99
    critic_lr: float = 3e-4
    actor_lr: float = 3e-4
    temperature_lr: float = 3e-4
    critic_target_update_weight: float = 0.005
    num_critics: int = 4
    num_subsample_critics: int = 2
    temperature_init: float = 0.01
    target_entropy: float | None = None
    use_backup_entropy: bool = False
    log_std_min: float = -5.0
    log_std_max: float = 0.0
    bc_initial_weight: float = 0.5
    bc_final_weight: float = 0.01
    bc_decay_steps: int = 50_000
    actor_ema_decay: float = 0.0
    q_weight: float = 1.0
    own_weight: float = 0.0
    grad_clip_norm: float = 10.0
    mixed_precision: str = "no"
    batch_size: int = 64
    actor_online_share: float = 0.5
    intervention_share: float | None = None
    utd_ratio: float = 1.0
    utd_ratio_uncalibrated: float = 0.5
    calibration_episodes: int = 10
    calibrated_gap: float = 0.2
    online_step_before_learning: int = 500
    critic_warmup_updates: int = 500
    policy_update_freq: int = 2
    image_size: tuple[int, int] = (48, 48)
    random_shift_px: int = 3
    image_encoder_hidden_dim: int = 64
    hidden_dim: int = 256
    success_reward: float = 1.0
    shaping_weight: float = 0.5
    online_buffer_capacity: int = 40_000
    offline_buffer_capacity: int = 20_000

    def __post_init__(self) -> None:
        """Check ranges and combinations."""
        for name in ("gripper_joints", "image_size", "speeds"):  # JSON has lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.algorithm not in ALGORITHMS:
            raise LearnError(
                f"algorithm: expected one of {', '.join(ALGORITHMS)}, got {self.algorithm!r}"
            )
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # so for NaN
                raise LearnError(f"{name}: expected {low:g} to {high:g}, got {getattr(self, name)}")
        if len(self.image_size) != 2 or min(self.image_size) < 16:
            raise LearnError(
                f"image_size: expected (height, width) of at least 16, got {self.image_size}"
            )
        if self.mixed_precision not in ("no", "bf16"):
            raise LearnError(f"mixed_precision: expected no or bf16, got {self.mixed_precision!r}")
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


_UNIT, _SIZE, _RATE = (0.0, 1.0), (1, 100_000_000), (1e-8, 1.0)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("act_chunk_size", "n_step", "obs_history_length"), (1, 1000)),
    "imitation_steps": (1, 1000),
    **dict.fromkeys(("act_dim_model", "act_n_heads", "act_dim_feedforward"), (1, 10_000)),
    **dict.fromkeys(("act_n_encoder_layers", "random_shift_px"), (0, 64)),
    **dict.fromkeys(("num_candidates", "num_critics", "num_subsample_critics"), (1, 256)),
    **dict.fromkeys(("act_n_decoder_layers", "policy_update_freq"), (1, 64)),
    **dict.fromkeys(("exploration", "bc_initial_weight", "bc_final_weight"), _UNIT),
    **dict.fromkeys(("actor_online_share", "intervention_share"), _UNIT),
    **dict.fromkeys(("critic_lr", "actor_lr", "temperature_lr"), _RATE),
    **dict.fromkeys(("batch_size", "bc_decay_steps", "calibration_episodes"), _SIZE),
    **dict.fromkeys(("image_encoder_hidden_dim", "hidden_dim"), (1, 10_000)),
    **dict.fromkeys(("online_buffer_capacity", "offline_buffer_capacity"), (100, 100_000_000)),
    **dict.fromkeys(("online_step_before_learning", "critic_warmup_updates"), (0, 100_000_000)),
    **dict.fromkeys(("utd_ratio", "utd_ratio_uncalibrated"), (0.0, 100.0)),
    **dict.fromkeys(("candidate_noise", "advantage_gate", "shaping_weight"), (0.0, 100.0)),
    **dict.fromkeys(("q_weight", "own_weight"), (0.0, 100.0)),
    **dict.fromkeys(("residual_bound", "gripper_bound"), (0.0, 10.0)),
    **dict.fromkeys(("temperature_init", "grad_clip_norm", "success_reward"), (1e-8, 1e6)),
    **dict.fromkeys(("log_std_min", "log_std_max"), (-20.0, 2.0)),
    "discount": (0.0, 0.9999),
    "actor_ema_decay": (0.0, 0.99999),
    "critic_target_update_weight": (1e-6, 1.0),
    "calibrated_gap": (0.0, 1e6),
    "exploration_half_life": (0, 100_000_000),
}


def preset(algorithm: str, **changes: object) -> RLSettings:
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


def parse_changes(texts: list[str]) -> dict[str, object]:
    """Read ``NAME=VALUE`` texts, the values as JSON.

    Raises:
        LearnError: not of that form.
    """
    changes: dict[str, object] = {}
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
