"""A policy's configuration from ``name -> text`` settings and the dataset's features."""

import difflib
from dataclasses import fields
from pathlib import Path

import draccus

from rewact_ros.policy import RewACTConfig
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy
from rewact_ros.policy.policy import PolicyConfig
from rewact_ros.policy.representations import Representation

from .demonstrations import Demonstrations
from .settings import TrainError, TrainSettings
from .training_state import POLICY, TrainingState

_ELSEWHERE = {
    "optimizer_lr": "--lr",
    "optimizer_lr_backbone": "--lr-backbone",
    "optimizer_weight_decay": "--weight-decay",
    "device": "--device",
    "action_representation": "--representation",
}


def parse_policy(settings: TrainSettings, device: str) -> RewACTConfig:
    """Parse ``settings.policy``; features are set by ``fit_to_dataset``.

    Raises:
        TrainError: an unknown setting or a value that it cannot take.
    """
    known = [f.name for f in fields(RewACTConfig) if f.name != "use_peft"]
    for name in settings.policy:
        if name in _ELSEWHERE:
            raise TrainError(f"policy setting {name}: is set by {_ELSEWHERE[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TrainError(f"policy setting {name}: RewACTConfig has no such setting{hint}")
    arguments = [f"--{name}={value}" for name, value in settings.policy.items()]
    if "n_action_steps" not in settings.policy and "chunk_size" in settings.policy:
        arguments.append(f"--n_action_steps={settings.policy['chunk_size']}")
    try:
        config = draccus.parse(RewACTConfig, args=[*arguments, f"--device={device}"])
    except Exception as error:  # draccus raises its own families of errors
        raise TrainError(
            f"policy settings {settings.policy}: {' '.join(str(error).split())}"
        ) from error
    if settings.rewind and config.n_obs_steps == 1:
        raise TrainError(
            "rewind: a single observation does not show which way time runs; "
            "set --policy n_obs_steps=2 or more, or rewind to 0"
        )
    return config


def starting_policy(
    settings: TrainSettings, state: TrainingState | None, device: str
) -> LoadedPolicy | None:
    """Open the checkpoint that the run begins with, in training mode; None for a new policy.

    A resumed run takes configuration and normalisation from its own checkpoint, so that ``start``
    may be gone or another by then.

    Raises:
        CheckpointError: it cannot be used.
    """
    if settings.start is None:
        return None
    source = Path(settings.start)
    if state is not None:
        assert state.folder is not None  # it was found on disk
        source = state.folder / POLICY
    loaded = load_policy(source, device)
    loaded.policy.train()
    return loaded


def fit_to_dataset(
    config: RewACTConfig,
    settings: TrainSettings,
    data: Demonstrations,
    representation: Representation | None = None,
) -> None:
    """Put the dataset's features, as represented, and the run's learning rates into ``config``.

    A new policy's reward gets eyes of its own where there is a camera and nothing else is said: a
    token of the transformer learns the arm's clock (see docs/training.md).

    Raises:
        TrainError: the policy cannot take these features; one that the run starts from has others.
    """
    config.optimizer_lr, config.optimizer_lr_backbone = settings.lr, settings.lr_backbone
    if settings.start is not None:
        require_features(config, data, settings.start)
        return
    config.action_representation = representation
    config.input_features, config.output_features = data.input_features(), data.output_features()
    if "reward_reads" not in settings.policy and config.image_features:
        config.reward_reads = "images"
    try:
        config.validate_features()
    except ValueError as error:
        raise TrainError(f"policy settings {settings.policy}: {error}") from error


def require_features(config: PolicyConfig, data: Demonstrations, policy: str) -> None:
    """Refuse a dataset that is not of the policy's robot; raises TrainError."""
    own = {**config.input_features, **config.output_features}
    theirs = {**data.input_features(), **data.output_features()}
    for key in sorted(own.keys() | theirs.keys()):
        expected, got = (
            tuple(f[key].shape) if key in f else "no such feature" for f in (own, theirs)
        )
        if expected != got:
            raise TrainError(
                f"{data.source.root}: {key}: expected {expected} as in {policy}, got "
                f"{got}; choose a dataset of this robot"
            )
