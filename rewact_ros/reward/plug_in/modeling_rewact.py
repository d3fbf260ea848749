"""RewACT's reward head as a reward model of LeRobot."""

from pathlib import Path
from typing import Any, Self

from huggingface_hub import snapshot_download
from lerobot.configs.rewards import RewardModelConfig
from lerobot.rewards.pretrained import PreTrainedRewardModel
from torch import Tensor

from rewact_ros.policy.checkpoint import LoadedPolicy, export_policy, load_policy
from rewact_ros.policy.compatibility import require_rewact, require_reward

from .configuration_rewact import RewACTHeadConfig


class RewACTHeadRewardModel(PreTrainedRewardModel):
    """The progress that a RewACT policy predicts; its actions are not asked for.

    Args:
        config: of the checkpoint.
        loaded: that checkpoint. LeRobot gives none where a reward model is to be trained from
            scratch, which RewACT is not: it learns as a policy.
    """

    name, config_class = "rewact", RewACTHeadConfig

    def __init__(
        self, config: RewACTHeadConfig, loaded: LoadedPolicy | None = None, **ignored: Any
    ) -> None:
        super().__init__(config)
        if loaded is None:
            raise ValueError(
                "rewact: expected a checkpoint (pretrained_path), got none; train one by "
                "`rewact train` or `lerobot-train --policy.type=rewact`"
            )
        self._path, self.policy = loaded.path, require_rewact(loaded, "a reward model")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: RewACTHeadConfig | None = None,
        **named: Any,
    ) -> Self:
        """Open a policy's checkpoint, checked as ``load_policy`` does.

        Args:
            pretrained_name_or_path: folder, or repository of the Hub.
            config: says the device; None: that of the folder.
            named: as LeRobot's; ``revision`` of a repository.

        Raises:
            CheckpointError: it is none, is damaged, or has no reward head.
        """
        folder = folder_of(pretrained_name_or_path, named)
        if config is None:
            config = RewardModelConfig.from_pretrained(folder)
        loaded = load_policy(folder, config.device or "auto")
        require_reward(loaded)
        return cls(config, loaded).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the whole checkpoint that it is of: a policy, and a reward model."""
        export_policy(self._path, save_directory)

    def reset(self) -> None:
        """Forget the past."""
        self.policy.reset()

    def compute_reward(self, batch: dict[str, Tensor]) -> Tensor:
        """Progress (B,) in [0, 1] of what the preprocessor gives; see ``RewACTPolicy.predict``."""
        reward = self.policy.predict(batch).reward
        assert reward is not None  # `from_pretrained` refuses a policy without
        return reward.value


def folder_of(name: str | Path, named: dict[str, Any]) -> Path:
    """A checkpoint's folder; one of the Hub is fetched, as LeRobot's own tools do when asked."""
    if Path(name).is_dir():
        return Path(name)
    keys = ("revision", "cache_dir", "force_download", "token", "local_files_only")
    given = {key: named[key] for key in keys if named.get(key) is not None}
    return Path(snapshot_download(str(name), **given))
