"""Episodes of the scripted expert: smooth motion noise on the arm, clean actions as labels.

`action[k]` is the clean command in force at the time of frame k; between frames the executed
command goes in a straight line from executed[k] to executed[k+1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.control.modes import Mode
from rewact_ros.sim.task import Expert, FloatArray, Task, Truth
from rewact_ros.sim.timing import smooth_noise

from .loop import FrameLog, drive

_LONGEST_S = 40  # of motion noise; later frames keep the last


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode of n frames.

    Attributes:
        seed, fault, retried: how it was made.
        state: (n, S) measured positions; action: (n, A) clean commands.
        images: per camera (n, H, W, 3) uint8.
        success_frame: first frame of true success (and of its lasting), or None.
        failure_frame: first frame at which a failure is true, or None.
        resume_frame: first frame of the renewed approach after a failure, or None.
        nominal_frames: frames until the plan has done what there is to do.
        truth: at the end.
    """

    seed: int
    fault: str | None
    retried: bool
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    images: dict[str, NDArray[np.uint8]]
    success_frame: int | None
    failure_frame: int | None
    resume_frame: int | None
    nominal_frames: int
    truth: Truth


def demonstrate(
    task: Task,
    seed: int,
    fault: str | None = None,
    retry: bool = False,
    noise_rad: float = 0.0,
    retries: int = 0,
) -> Demonstration:
    """Reset the task to a seed, run the expert and return what was seen and done.

    Args:
        fault: one of the task's, that the expert makes.
        retry: only with the task's `retry_fault`: notice it, and try again.
        noise_rad: standard deviation of the arm's motion noise, small where it would ruin the task.
        retries: further attempts while the task is not done at the end of a plan.

    Raises:
        ValueError: `retry` with another fault, or negative noise.
    """
    if retry and (fault or "") != task.retry_fault:
        raise ValueError(f"retry with fault {fault!r}: expected fault '{task.retry_fault}'")
    if noise_rad < 0:
        raise ValueError(f"noise {noise_rad} rad: expected 0 or more")
    rng = np.random.default_rng((seed, 1))  # not the stream that draws the scene
    task.reset(seed)
    expert = task.expert(rng, fault or "", give_up=retry)
    frames = _LONGEST_S * task.rate_hz
    noise = smooth_noise(frames, noise_rad, rng, task.noisy, task.rate_hz)
    lead, log = _Scripted(task, expert, noise, int(retry) + retries), FrameLog()
    drive(task, lead, [log])
    success = [truth.success for truth in log.truths]
    failed = [index for index, truth in enumerate(log.truths) if truth.failure]
    return Demonstration(
        seed=seed,
        fault=fault,
        retried=lead.resume_frame is not None,
        state=np.asarray(log.state, dtype=np.float32),
        action=np.asarray(lead.clean, dtype=np.float32),
        images={camera: np.stack(images) for camera, images in log.images.items()},
        success_frame=success.index(True) if success[-1] else None,
        failure_frame=failed[0] if failed else None,
        resume_frame=lead.resume_frame,
        nominal_frames=round(lead.expert.nominal_s * task.rate_hz),
        truth=task.truth(),
    )


class _Scripted:
    """Leads by plan after plan, to the end of the last.

    Attributes:
        expert: whose plan is in force.
        clean: (A,) per frame, its command without the noise.
        resume_frame: where the newest further attempt began; None: there was none.
    """

    every = 1
    mode = Mode.POLICY

    def __init__(self, task: Task, expert: Expert, noise: FloatArray, attempts: int) -> None:
        self._task, self._noise, self._attempts = task, noise, attempts
        self._ticks = task.command_hz // task.rate_hz
        self.clean: list[FloatArray] = []
        self.resume_frame: int | None = None
        self._begin(expert)

    def over(self, tick: int) -> bool:
        if tick < self._ends_frame * self._ticks:
            return False
        if not self._attempts or self._task.truth().success:
            return True
        self._attempts -= 1
        self.resume_frame = len(self.clean)
        self._begin(self._task.expert(start=self.expert.command(self.expert.duration_s)))
        return False

    def see(self, tick: int, observation: dict[str, Any]) -> tuple[bool, None]:
        t_s = (len(self.clean) - self._begin_frame) / self._task.rate_hz
        self.clean.append(self.expert.command(t_s))
        self._here = self._executed(t_s, 0)
        self._there = self._executed(t_s + 1 / self._task.rate_hz, 1)
        return True, None

    def command(self, tick: int) -> FloatArray:
        step = tick % self._ticks
        return self._here + (self._there - self._here) * step / self._ticks

    def _begin(self, expert: Expert) -> None:
        self.expert, self._begin_frame = expert, len(self.clean)
        frames = int(np.ceil(expert.duration_s * self._task.rate_hz - 1e-9))
        self._ends_frame = self._begin_frame + frames

    def _executed(self, t_s: float, ahead: int) -> FloatArray:
        index = min(len(self.clean) - 1 + ahead, len(self._noise) - 1)
        return self.expert.command(t_s) + self.expert.noise_scale(t_s) * self._noise[index]
