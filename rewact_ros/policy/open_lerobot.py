"""Opening a checkpoint of any other type that LeRobot, or a plug-in of it, has.

A type is a name in LeRobot's own register. What registers there is LeRobot and the packages that
the user installed under LeRobot's plug-in names; no file of a checkpoint can add to it.
"""

import sys
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_LANGUAGE
from lerobot.utils.import_utils import register_third_party_plugins
from torch import Tensor, nn

from rewact_ros.control.chunks import MOST_STEPS

from .checkpoint_config import read_lerobot_config
from .checkpoint_files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles
from .policy import Estimate, PolicyConfig
from .processors import POSTPROCESSOR, PREPROCESSOR, TASK, is_told_by_text, load_processors
from .real_time import RealTimeChunks
from .weights import check_weights, load_tensors, resolve_device

# How LeRobot's policies call the number of actions that `predict_action_chunk` gives. Those that
# have a chunk_size give all of it, and `select_action` takes n_action_steps of them.
_CHUNKS = ("action_chunk_size", "chunk_size", "n_action_steps")


class ForeignSettings:
    """A LeRobot configuration, with what this package asks of every policy (`PolicyConfig`)."""

    def __init__(self, config: PreTrainedConfig, chunk_size: int, needs_text: bool) -> None:
        self._config, self.chunk_size, self.needs_text = config, chunk_size, needs_text
        self.image_size: tuple[int, int] | None = None
        self.reward_head = "none"
        self.value_min, self.value_max = 0.0, 1.0
        self.device, self.n_obs_steps = str(config.device), int(config.n_obs_steps)
        given = dict(config.input_features or {})
        # A plug-in may declare the text that it reads; a robot's contract has none.
        self.needs_text |= any(ft.type is FeatureType.LANGUAGE for ft in given.values())
        self.input_features = {k: f for k, f in given.items() if f.type is not FeatureType.LANGUAGE}
        self.output_features = dict(config.output_features or {})
        modes = config.normalization_mapping.items()  # a plug-in may have left them as text
        self.normalization_mapping = {kind: NormalizationMode(mode) for kind, mode in modes}

    @property
    def image_features(self) -> dict[str, PolicyFeature]:
        """The cameras among the inputs."""
        return dict(self._config.image_features)

    @property
    def action_feature(self) -> PolicyFeature:
        """The action among the outputs."""
        return self.output_features[ACTION]


class ForeignPolicy(nn.Module):
    """A LeRobot policy behind the interface of ours (`Policy`): actions, no reward, no features.

    Args:
        policy: in eval mode; its queues are used, so it serves one robot at a time.
        told: its preprocessor makes tokens of a task's text.

    Attributes:
        config: its settings.
        model: that policy.
        real_time: guides a chunk by the last one, in policies that can be guided; else None.
    """

    def __init__(self, policy: PreTrainedPolicy, told: bool = False) -> None:
        super().__init__()
        self.model = policy
        sizes = [getattr(policy.config, name, None) for name in _CHUNKS]
        chunk = next((size for size in sizes if isinstance(size, int)), 1)
        self.config: PolicyConfig = ForeignSettings(policy.config, min(chunk, MOST_STEPS), told)
        self.real_time = RealTimeChunks(policy) if RealTimeChunks.supports(policy) else None
        self._one_by_one = False

    def reset(self) -> None:
        """Forget the past."""
        self.model.reset()
        if self.real_time is not None:
            self.real_time.reset()

    def predict(self, batch: dict[str, Tensor]) -> Estimate:
        """Predict from normalised observations.

        Args:
            batch: state (B, S), cameras (B, 3, H, W); of a policy with n_obs_steps > 1 (B, n, …),
                oldest first. Of one that is told by text its tokens (B, L), or the text itself
                as ``task``.
        """
        now = self._with_past(batch)
        guide = self.real_time.given if self.real_time is not None else {}
        actions = self._guided(now, guide) if guide else self._chunk(now)
        if self.real_time is not None:
            self.real_time.keep(actions)
        return Estimate(actions[:, :MOST_STEPS], None, None)

    def _chunk(self, batch: dict[str, Any]) -> Tensor:
        if not self._one_by_one:
            try:
                return self.model.predict_action_chunk(batch)
            except NotImplementedError:  # single actions only, out of a queue of its own
                self._one_by_one = True
        return self.model.select_action(batch)[:, None]

    def _guided(self, batch: dict[str, Any], guide: dict[str, Any]) -> Tensor:
        """A chunk that goes on from the last one."""
        # The guidance is a gradient, which tensors made in inference mode do not have.
        with torch.inference_mode(False), torch.no_grad():
            copied, given = (
                {k: v.clone() if isinstance(v, Tensor) else v for k, v in values.items()}
                for values in (batch, guide)
            )
            return self.model.predict_action_chunk(copied, **given)

    def _with_past(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The newest observation; those before it go where LeRobot's policies keep them."""
        steps = self.config.n_obs_steps
        told = {key: batch[key] for key in batch if key == TASK or key.startswith(OBS_LANGUAGE)}
        # Beside them LeRobot's processors hand on what a dataset has: None here.
        batch = {k: v for k, v in batch.items() if isinstance(v, Tensor) and k not in told}
        past = [{key: value[:, k] for key, value in batch.items()} for k in range(steps)]
        past = past if steps > 1 else [batch]
        queues = getattr(self.model, "_queues", None)
        if not isinstance(queues, dict):
            return past[-1] | told
        cameras = list(self.config.image_features)
        for key in [key for key in queues if key != ACTION]:
            seen = [
                torch.stack([step[camera] for camera in cameras], dim=-4)
                if key == OBS_IMAGES
                else step[key]
                for step in past
                if key == OBS_IMAGES or key in step
            ]
            queues[key] = deque(seen, maxlen=steps)
        if ACTION in queues:
            queues[ACTION].clear()
        newest = past[-1] | told
        if OBS_IMAGES in queues:
            newest[OBS_IMAGES] = queues[OBS_IMAGES][-1]
        return newest

    def forward(self, batch: dict[str, Tensor]) -> Any:
        """LeRobot's own loss."""
        return self.model.forward(batch)

    def get_optim_params(self) -> Any:
        """As LeRobot has it."""
        return self.model.get_optim_params()

    def save_pretrained(self, save_directory: Any) -> Any:
        """As LeRobot has it."""
        return self.model.save_pretrained(save_directory)


@cache
def _registered(path: tuple[str, ...]) -> None:
    register_third_party_plugins()


def register_plugins() -> None:
    """Let LeRobot import the plug-ins on this process's path: once, for it reads all packages."""
    _registered(tuple(sys.path))


def known_types() -> list[str]:
    """Names of LeRobot's policies and of those of installed plug-ins."""
    register_plugins()
    return sorted(PreTrainedConfig.get_known_choices())


def open_lerobot(
    files: CheckpointFiles, device: str
) -> tuple[ForeignPolicy, PolicyProcessorPipeline, PolicyProcessorPipeline]:
    """Make the policy, in eval mode on the device, with its processors; see ``load_policy``."""
    where = files.path / CONFIG
    missing = [name for name in (PREPROCESSOR, POSTPROCESSOR, WEIGHTS) if name not in files]
    if missing:
        raise CheckpointError(
            f"{files.path}: missing {', '.join(missing)}; expected a folder of LeRobot's "
            "save_pretrained with both processors, as lerobot-train writes it"
        )
    raw = files.json(CONFIG)
    kind, device = raw["type"], resolve_device(device)
    config = read_lerobot_config(PreTrainedConfig.get_choice_class(kind), raw, str(where), device)
    weights = load_tensors(files, WEIGHTS)
    policy = _build(kind, config, where)
    check_weights(str(files.path / WEIGHTS), policy.state_dict(), weights)
    policy.load_state_dict(weights)
    foreign = ForeignPolicy(policy, is_told_by_text(files))
    processors = load_processors(files, foreign.config, device)
    return foreign.to(device).eval(), *processors


def _build(kind: str, config: PreTrainedConfig, where: Path) -> PreTrainedPolicy:
    try:
        return get_policy_class(kind)(config)
    except ImportError as error:
        raise CheckpointError(
            f"{where}: type {kind}: {' '.join(str(error).split())[:300]}; pip install "
            f"'lerobot[{kind}]'"
        ) from error
    except Exception as error:  # constructors of LeRobot, torch and plug-ins raise any family
        raise CheckpointError(
            f"{where}: no policy of type {kind} can be built from it: "
            f"{' '.join(str(error).split())[:300] or type(error).__name__}; use the file of the "
            "run that trained it"
        ) from error
