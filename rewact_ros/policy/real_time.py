"""Real-time chunking: a chunk goes on from what the robot does while the chunk is computed.

Black, Galliker and Levine (arXiv:2506.07339), by LeRobot's own `RTCProcessor` inside the policies
that support it (SmolVLA, the pi0 family, …): the rest of the chunk that moves the robot guides the
denoising, fully for the steps that will have passed when the new chunk comes, less and less after.
"""

import inspect
import math
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from torch import Tensor

_GIVEN = {"inference_delay", "prev_chunk_left_over", "execution_horizon"}


class RealTimeChunks:
    """What a policy is given of its last chunk; LeRobot's names, and its settings by default.

    Args:
        policy: one that `supports` it; its settings are filled in.

    Attributes:
        steps: that were said to pass while the newest chunk was computed; 0: it was not guided.
    """

    def __init__(self, policy: PreTrainedPolicy) -> None:
        settings = getattr(policy.config, "rtc_config", None) or RTCConfig()
        settings.enabled = True
        policy.config.rtc_config = settings
        if hasattr(policy, "init_rtc_processor"):
            policy.init_rtc_processor()
        self._horizon = settings.execution_horizon
        self.reset()

    @staticmethod
    def supports(policy: PreTrainedPolicy) -> bool:
        """Whether a policy says that it can be guided, and takes what guides it.

        As LeRobot's own roll-outs ask; their module would import robots and cameras.
        """
        if not policy.supports_rtc():
            return False
        taken = inspect.signature(policy.predict_action_chunk).parameters.values()
        names = {parameter.name for parameter in taken}
        return any(p.kind is p.VAR_KEYWORD for p in taken) or names >= _GIVEN

    def reset(self) -> None:
        """Nothing moves the robot yet."""
        self.steps = 0
        self._driving: tuple[float, Tensor] | None = None
        self._newest: tuple[float, Tensor] | None = None
        self._given: dict[str, Any] = {}
        self._stamp_s = math.nan

    def begin(self, stamp_s: float, delay_s: float, rate_hz: float) -> None:
        """Prepare for an observation.

        Args:
            stamp_s: its time.
            delay_s: from an observation until its chunk moves the robot, as measured.
            rate_hz: of a chunk's steps.
        """
        self._stamp_s, self._given, self.steps = stamp_s, {}, 0
        # Within a step nothing of the last chunk is left to go on from but its own next step.
        if self._driving is None or delay_s * rate_hz <= 1.0:
            return
        since_s, chunk = self._driving
        passed = (stamp_s - since_s) * rate_hz
        if not 0 <= passed <= chunk.shape[1] - 1:
            return
        self.steps = math.ceil(delay_s * rate_hz)
        rest = _from(chunk, passed)
        # LeRobot guides over `execution_horizon` steps; a longer delay needs as many.
        horizon = min(max(self._horizon, self.steps + 1), rest.shape[1])
        self._given = {
            "inference_delay": min(self.steps, horizon),
            "prev_chunk_left_over": rest,
            "execution_horizon": horizon,
        }

    @property
    def given(self) -> dict[str, Any]:
        """What `predict_action_chunk` takes besides the observation; empty: no guidance."""
        return self._given

    def keep(self, actions: Tensor) -> None:
        """Take the chunk (1, steps, A) that came of it, normalised."""
        self._newest = self._stamp_s, actions.clone()

    def drives(self) -> None:
        """The newest chunk moves the robot from now on."""
        self._driving = self._newest


def _from(chunk: Tensor, passed: float) -> Tensor:
    """The steps (1, n, A) from a moment on, which may lie between two of them."""
    whole = math.floor(passed + 1e-6)
    share = max(passed - whole, 0.0)
    if share < 1e-3:
        return chunk[:, whole:]
    return torch.lerp(chunk[:, whole:-1], chunk[:, whole + 1 :], share)
