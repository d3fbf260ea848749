"""The frozen base policy as the learner sees it: scales, limits and the shape of its frames."""

from dataclasses import dataclass

import numpy as np
import torch
from lerobot.configs import NormalizationMode
from torch import Tensor

from rewact_ros.contract import Contract
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.compatibility import check_contract

from .settings import LearnError, RLSettings
from .transitions import CANDIDATES, IMAGES, PROGRESS, STATE, FrameSpec


@dataclass(frozen=True)
class Base:
    """What a run needs to know of robot and base policy.

    Attributes:
        loaded: the base; its weights never change.
        contract: of the robot.
        state_mean, state_std: (S,) of its state, contract units.
        action_mean, action_std: (A,) of its actions, contract units.
        image_size: (height, width) px that frames are kept at.
    """

    loaded: LoadedPolicy
    contract: Contract
    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    image_size: tuple[int, int]

    @property
    def cameras(self) -> list[str]:
        """Keys of the cameras, in the order of ``observation.images``."""
        return list(self.loaded.config.image_features)

    @property
    def low(self) -> Tensor:
        """(A,) lower position limits."""
        return torch.from_numpy(self.contract.limits.low).float()

    @property
    def high(self) -> Tensor:
        """(A,) upper position limits."""
        return torch.from_numpy(self.contract.limits.high).float()

    def bounds(self, settings: RLSettings) -> Tensor:
        """(A,) bounds of a correction; those of a gripper apart."""
        grips = [
            any(word in name for word in settings.gripper_joints)
            for name in self.contract.action_names
        ]
        bound = np.where(grips, settings.gripper_bound, settings.residual_bound)
        return torch.from_numpy(bound).float()

    def spec(self, settings: RLSettings) -> FrameSpec:
        """What an observation is made of."""
        joints = len(self.action_mean)
        arrays = {
            STATE: ((len(self.state_mean),), "float32"),
            CANDIDATES: ((settings.candidates, settings.steps, joints), "float32"),
            PROGRESS: ((), "float32"),
        }
        if self.cameras:
            arrays[IMAGES] = ((len(self.cameras), *self.image_size, 3), "uint8")
        return FrameSpec(arrays, joints)


def open_base(loaded: LoadedPolicy, contract: Contract, settings: RLSettings) -> Base:
    """Check that a run can begin with this policy.

    Raises:
        ContractError, CheckpointError: the policy was made for another robot.
        LearnError: it has no reward head or no state, commands no positions, or its chunk, history
            or normalisation does not fit the settings.
    """
    check_contract(loaded, contract)
    config, where = loaded.config, loaded.path
    if loaded.representation is not None:
        raise LearnError(
            f"{where}: action_representation {loaded.representation}: expected joints, "
            "which bounded corrections are added to; learn from a policy of absolute joints"
        )
    if config.reward_head == "none":
        raise LearnError(
            f"{where}: reward_head is none: nothing would judge the episodes; train one with a "
            "reward head"
        )
    if STATE not in config.input_features:
        raise LearnError(f"{where}: expected {STATE} among its inputs; it is what critics see")
    if {part.command for part in contract.action} != {"position"}:
        raise LearnError(
            f"{contract.robot}: action.command: expected position everywhere; bounded corrections "
            "and held commands mean nothing for velocities"
        )
    needed = settings.steps * max(settings.speeds)
    if config.chunk_size <= needed:
        raise LearnError(
            f"{where}: chunk_size {config.chunk_size}: expected more than the {needed:g} steps of "
            "the fastest decision; lower act_chunk_size, or leave out the highest of speeds"
        )
    state_mean, state_std = _state_scale(loaded)
    action_mean, action_std = _action_scale(loaded)
    return Base(
        loaded=loaded,
        contract=contract,
        state_mean=state_mean,
        state_std=state_std,
        action_mean=action_mean,
        action_std=action_std,
        image_size=_image_size(loaded, settings),
    )


def _state_scale(loaded: LoadedPolicy) -> tuple[Tensor, Tensor]:
    """Centre and spread (S,) of the state, found by asking the preprocessor."""
    features = loaded.config.input_features

    def normalised(value: float) -> Tensor:
        batch = {key: torch.zeros(1, *feature.shape) for key, feature in features.items()}
        batch[STATE] = torch.full((1, *features[STATE].shape), value)
        return loaded.preprocessor(batch)[STATE][0].cpu()

    at_0, at_1 = normalised(0.0), normalised(1.0)
    spread = 1 / (at_1 - at_0)
    return -at_0 * spread, spread


def _action_scale(loaded: LoadedPolicy) -> tuple[Tensor, Tensor]:
    """Centre and spread (A,) of the actions, found by asking the postprocessor."""
    feature = loaded.config.action_feature
    assert feature is not None  # a loader refuses a policy without
    shape = (1, *feature.shape)
    centre = loaded.postprocessor(torch.zeros(shape))[0].float()
    return centre, loaded.postprocessor(torch.ones(shape))[0].float() - centre


def _image_size(loaded: LoadedPolicy, settings: RLSettings) -> tuple[int, int]:
    """The base's own size where its network is trained on, else the critic's."""
    if not (settings.use_act_actor and settings.act_from_base):
        return settings.image_size
    config, where = loaded.config, loaded.path
    if config.n_obs_steps != settings.history:
        raise LearnError(
            f"{where}: n_obs_steps {config.n_obs_steps}: expected the {settings.history} "
            "observations that the actor sees; set use_sequence_act_actor and obs_history_length "
            "so, or act_from_base to false"
        )
    if config.normalization_mapping["VISUAL"] is not NormalizationMode.IDENTITY:
        raise LearnError(
            f"{where}: images are normalised outside the network; set act_from_base to false"
        )
    sizes = {config.image_size or ft.shape[1:] for ft in config.image_features.values()}
    if len(sizes) > 1:
        raise LearnError(
            f"{where}: cameras of sizes {sorted(sizes)}: expected one; train it with image_size, "
            "or set act_from_base to false"
        )
    return tuple(sizes.pop()) if sizes else settings.image_size
