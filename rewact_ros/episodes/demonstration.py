"""Episodes of the scripted expert: smooth motion noise on the arm, clean actions as labels.

Time convention, equal to the robot-side command stream: frame k is observed at k/rate, before
any later command; `action[k]` is the clean command in force at exactly that time; between frames
the executed command goes in a straight line from executed[k] to executed[k+1] at `COMMAND_HZ`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rewact_ros.sim.pick_place.expert import Expert
from rewact_ros.sim.pick_place.simulation import PickPlaceSim
from rewact_ros.sim.pick_place.truth import Truth
from rewact_ros.sim.timing import COMMAND_HZ, RATE_HZ, smooth_noise


@dataclass(frozen=True)
class Episode:
    """One recorded episode of n frames.

    Attributes:
        seed, fault, retried: how it was made.
        state: (n, 7) measured positions; action: (n, 7) clean commands; both rad, gripper 0 to 1.
        images: per camera (n, H, W, 3) uint8.
        success_frame: first frame of true success (and of its lasting), or None.
        failure_frame: first frame at which a failure is true, or None.
        resume_frame: first frame of the renewed approach after a failure, or None.
        nominal_frames: frames that the plan takes up to its release.
        truth: at the end.
    """

    seed: int
    fault: str | None
    retried: bool
    state: np.ndarray
    action: np.ndarray
    images: dict[str, np.ndarray]
    success_frame: int | None
    failure_frame: int | None
    resume_frame: int | None
    nominal_frames: int
    truth: Truth


class _Recorder:
    """Collects frames and executes commands on the simulation's clock."""

    def __init__(self, sim: PickPlaceSim, noise: np.ndarray) -> None:
        self._sim = sim
        self._noise = noise
        self.state: list[np.ndarray] = []
        self.action: list[np.ndarray] = []
        self.images: dict[str, list[np.ndarray]] = {camera: [] for camera in sim.cameras}
        self.truths: list[Truth] = []

    def run(self, expert: Expert) -> None:
        """Execute the expert's plan to its end."""
        frames = int(np.ceil(expert.duration_s * RATE_HZ - 1e-9))
        for index in range(frames):
            t_s = index / RATE_HZ
            self._observe(expert.command(t_s))
            here = self._executed(expert, t_s, 0)
            there = self._executed(expert, t_s + 1 / RATE_HZ, 1)
            steps = COMMAND_HZ // RATE_HZ
            for step in range(steps):
                self._sim.set_command(here + (there - here) * step / steps)
                self._sim.advance(1 / COMMAND_HZ)

    def _observe(self, action: np.ndarray) -> None:
        self.state.append(self._sim.joint_positions())
        self.action.append(action)
        self.truths.append(self._sim.truth())
        for camera, frames in self.images.items():
            frames.append(self._sim.render(camera).copy())

    def _executed(self, expert: Expert, t_s: float, ahead: int) -> np.ndarray:
        index = min(len(self.state) - 1 + ahead, len(self._noise) - 1)
        return expert.command(t_s) + expert.noise_scale(t_s) * self._noise[index]


def roll_out(
    sim: PickPlaceSim,
    seed: int,
    fault: str | None = None,
    retry: bool = False,
    noise_rad: float = 0.0,
    retries: int = 0,
) -> Episode:
    """Reset the simulation to a seed, run the expert and return what was seen and done.

    Args:
        fault: as for `Expert`.
        retry: only with `missed_grasp`: notice the miss after the lift, open and try again.
        noise_rad: standard deviation of the arm's motion noise, small near grasp and release.
        retries: further attempts while the task is not done at the end of a plan.

    Raises:
        ValueError: `retry` without a missed grasp, or negative noise.
    """
    if retry and fault != "missed_grasp":
        raise ValueError(f"retry with fault {fault!r}: expected fault 'missed_grasp'")
    if noise_rad < 0:
        raise ValueError(f"noise {noise_rad} rad: expected 0 or more")
    rng = np.random.default_rng((seed, 1))  # not the stream that draws the scene
    sim.reset(seed)
    expert = Expert(sim, fault, rng)
    nominal = expert.plan(give_up=retry)
    recorder = _Recorder(sim, smooth_noise(40 * RATE_HZ, noise_rad, rng))
    recorder.run(expert)
    resume = None
    for _ in range(int(retry) + retries):
        if sim.truth().success:
            break
        resume = len(recorder.action)
        expert_end = expert.command(expert.duration_s)
        expert = Expert(sim)
        nominal = expert.plan(start=expert_end)
        recorder.run(expert)
    return _finish(sim, seed, fault, recorder, resume, nominal.released_s)


def _finish(
    sim: PickPlaceSim,
    seed: int,
    fault: str | None,
    recorder: _Recorder,
    resume: int | None,
    released_s: float,
) -> Episode:
    success = [truth.success for truth in recorder.truths]
    failed = [index for index, truth in enumerate(recorder.truths) if truth.failure]
    return Episode(
        seed=seed,
        fault=fault,
        retried=resume is not None,
        state=np.asarray(recorder.state, dtype=np.float32),
        action=np.asarray(recorder.action, dtype=np.float32),
        images={camera: np.stack(frames) for camera, frames in recorder.images.items()},
        success_frame=success.index(True) if success[-1] else None,
        failure_frame=failed[0] if failed else None,
        resume_frame=resume,
        nominal_frames=round(released_s * RATE_HZ),
        truth=sim.truth(),
    )
