"""Opening a checkpoint of any reward model that LeRobot, or a plug-in of it, has.

A type is a name in LeRobot's own register of reward models. What registers there is LeRobot and the
packages that the user installed under LeRobot's plug-in names; no file of a checkpoint can add to
it. LeRobot's factories make the model and its preprocessor from the checked configuration.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.configs.rewards import RewardModelConfig
from lerobot.processor import PolicyProcessorPipeline
from lerobot.rewards import get_reward_model_class, make_reward_pre_post_processors
from lerobot.rewards.pretrained import PreTrainedRewardModel
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from rewact_ros.policy.checkpoint_config import read_reward_config
from rewact_ros.policy.checkpoint_files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles
from rewact_ros.policy.open_lerobot import register_plugins
from rewact_ros.policy.processors import prepare_statistics, read_statistics
from rewact_ros.policy.weights import check_weights, load_tensors, resolve_device

from .hub_models import offline, require_cached
from .lerobot_types import PLUG_IN, TYPES, RewardType

Stats = dict[str, dict[str, Tensor]]
_ROUNDING = 1e-5  # of a sum of probabilities in float32


@dataclass(frozen=True)
class LoadedRewardModel:
    """A reward model of LeRobot ready to run.

    Attributes:
        model: in eval mode on its device.
        preprocessor: raw batch -> what the model takes, on its device.
        kind: what is peculiar to its type.
        path: the checkpoint's folder.
        version: first 12 hexadecimal digits of the SHA-256 of its weights, or of its configuration.
        basis: of its score, beside the weights: settings, statistics, revisions of the Hub.
        state_width: numbers of the state that it takes; 0: it does not look at it.
    """

    model: PreTrainedRewardModel
    preprocessor: PolicyProcessorPipeline
    kind: RewardType
    path: Path
    version: str
    basis: str
    state_width: int

    @property
    def config(self) -> RewardModelConfig:
        """Its settings."""
        return self.model.config

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that it looks at."""
        given = self.config.input_features.items()
        return tuple(key for key, feature in given if feature.type is FeatureType.VISUAL)

    @property
    def needs_text(self) -> bool:
        """Whether it must be told the task in words."""
        told = any(f.type is FeatureType.LANGUAGE for f in self.config.input_features.values())
        return (told or self.kind.told) and not getattr(self.config, "default_task", None)

    @cached_property
    def reward_hash(self) -> str:
        """First 12 hexadecimal digits of a SHA-256 of what its score depends on but the text."""
        return hashlib.sha256(f"{self.version} {self.basis}".encode()).hexdigest()[:12]

    @torch.inference_mode()
    def run(self, batch: dict[str, Any]) -> Tensor:
        """What the model says of one raw batch (B,), whatever its range."""
        return self.kind.score(self.model, self.preprocessor(batch))

    def score(self, batch: dict[str, Any]) -> float:
        """Progress or probability in [0, 1] of one raw batch, B = 1.

        Raises:
            FloatingPointError: it is not finite.
            ValueError: it is not one number, or lies outside [0, 1].
        """
        found = self.run(batch)
        if found.numel() != 1:
            raise ValueError(f"{self._name}: expected one number, got {tuple(found.shape)}")
        value = float(found)
        if not math.isfinite(value):
            raise FloatingPointError(f"{self._name} answers {value}; check its input and weights")
        if not -_ROUNDING <= value <= 1.0 + _ROUNDING:
            raise ValueError(
                f"{self._name}: expected progress or a probability from 0 to 1, got {value:g}; "
                "a score of another range is no judge here"
            )
        return min(max(value, 0.0), 1.0)

    @property
    def _name(self) -> str:
        return f"reward model {self.path} ({self.config.type})"


def reward_types() -> list[str]:
    """Names of LeRobot's reward models and of those of installed plug-ins."""
    register_plugins()
    return sorted(RewardModelConfig.get_known_choices())


def load_reward_model(files: CheckpointFiles, device: str = "auto") -> LoadedRewardModel:
    """Open a checkpoint, checking all of it before anything runs on it.

    Args:
        files: of the folder that LeRobot's `save_pretrained` wrote; with the preprocessor where
            inputs are normalised, as lerobot-train writes it.
        device: `auto` (a GPU if there is one), or a torch device.

    Raises:
        CheckpointError: an unknown type; settings, weights or statistics that do not fit; a package
            or a model of the Hub that is not on this machine (says how to get it).
    """
    where, device = str(files.path / CONFIG), resolve_device(device)
    raw = files.json(CONFIG, infinity=True)  # TOPReward's threshold is one
    kind, known = raw.get("type"), reward_types()
    if kind not in known:
        raise CheckpointError(
            f"{where}: type: expected one of {', '.join(known)}, got {str(kind)[:80]}; install the "
            "plug-in that has it"
        )
    row, config_class = TYPES.get(str(kind), PLUG_IN), RewardModelConfig.get_choice_class(str(kind))
    revisions = _backbones(f"{where}: type {kind}", row, config_class, raw)
    # With a path LeRobot fills an empty network from the checkpoint, instead of from the Hub.
    fixed = {"device": device, "pretrained_path": str(files.path)}
    with offline():
        config: Any = _tried(
            where, row, lambda: read_reward_config(config_class, raw, where, fixed)
        )
        if fault := row.fault(config):
            raise CheckpointError(f"{where}: {fault}")
        model: Any = _tried(where, row, lambda: get_reward_model_class(config.type)(config))
        if not row.weightless:
            _fill(model, files)
        stats = _statistics(files, config, row)
        preprocessor: Any = _tried(
            where, row, lambda: make_reward_pre_post_processors(config, dataset_stats=stats)[0]
        )
    for step in preprocessor.steps:
        if hasattr(step, "eval"):  # SARM's draws at random in training
            step.eval()
    return LoadedRewardModel(
        model.to(device).eval(),
        preprocessor,
        row,
        files.path,
        files.version,
        _basis(raw, stats, revisions),
        _state_width(config, stats),
    )


def _backbones(where: str, row: RewardType, kind: type, raw: Mapping[str, Any]) -> list[str]:
    """Revisions of the models of the Hub that it is built on."""
    if not row.hub:
        return []
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    name = raw.get(row.hub, defaults[row.hub]) if row.hub in defaults else row.hub
    if not isinstance(name, str):
        raise CheckpointError(f"{where}: {row.hub}: expected a name of the Hub")
    own = defaults.get(row.hub, row.hub)
    return require_cached(where, [name], frozenset({str(own)}))


def _tried(where: str, row: RewardType, make: Callable[[], Any]) -> Any:
    """What LeRobot makes; what it raises, of any family, as an error of the checkpoint."""
    try:
        return make()
    except CheckpointError:
        raise
    except ImportError as error:
        extra = f"; pip install 'lerobot[{row.extra}]'" if row.extra else ""
        raise CheckpointError(f"{where}: {_brief(error)}{extra}") from error
    except Exception as error:  # constructors of LeRobot, torch and plug-ins raise any family
        cause = f" ({_brief(error.__cause__)})" if error.__cause__ is not None else ""
        raise CheckpointError(
            f"{where}: no reward model can be built from it: {_brief(error)}{cause}; use the "
            "folder of the run that trained it"
        ) from error


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _fill(model: PreTrainedRewardModel, files: CheckpointFiles) -> None:
    """Load the weights; a tensor that the network has by several names may be saved by one."""
    expected, weights = model.state_dict(), load_tensors(files, WEIGHTS)
    places: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in expected.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        places.setdefault(place if tensor.numel() else (name,), []).append(name)
    for names in places.values():
        held = next((name for name in names if name in weights), None)
        if held is not None:
            weights |= {name: weights[held] for name in names if name not in weights}
    check_weights(str(files.path / WEIGHTS), expected, weights)
    model.load_state_dict(weights)


def _statistics(files: CheckpointFiles, config: RewardModelConfig, row: RewardType) -> Stats:
    """Statistics of all inputs that are normalised; LeRobot passes on, unscaled, what has none."""
    stats = read_statistics(files)
    mapping = getattr(config, "normalization_mapping", None) or {}
    modes = {str(kind): NormalizationMode(mode) for kind, mode in mapping.items()}
    features = dict(config.input_features)
    if row.nominal and OBS_STATE in features:
        width = _state_width(config, stats)
        features[OBS_STATE] = PolicyFeature(FeatureType.STATE, (width,))
    prepare_statistics(str(files.path), features, modes, stats)
    return {key: stats[key] for key in features if key in stats}


def _state_width(config: RewardModelConfig, stats: Stats) -> int:
    """Numbers of the state that it was trained on; 0: it does not look at it."""
    if OBS_STATE not in config.input_features:
        return 0
    known = [value.numel() for value in stats.get(OBS_STATE, {}).values() if value.ndim]
    return known[0] if known else int(config.input_features[OBS_STATE].shape[0])


def _basis(raw: Mapping[str, Any], stats: Stats, revisions: list[str]) -> str:
    """All that the score depends on beside the weights, as text."""
    settings = {key: value for key, value in raw.items() if key not in _NO_MATTER}
    numbers = {
        f"{key}.{name}": value.double().flatten().tolist()
        for key, found in sorted(stats.items())
        for name, value in sorted(found.items())
    }
    return json.dumps([settings, numbers, revisions], sort_keys=True)


_NO_MATTER = (
    *("device", "pretrained_path", "pretrained_revision"),
    *("push_to_hub", "repo_id", "license", "tags", "private"),
)
