"""A person who helps a simulated robot: the expert, with a reaction time and an unsteady hand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from rewact_ros.sim.task import Expert, FloatArray, Scene, Task
from rewact_ros.sim.timing import smooth_noise

_LONGEST_PLAN_S = 40
_REACTION_SPREAD = 0.25  # of the logarithm of reaction times
LOOK_S = 0.8  # it must be done this long before the hand lets go, which retreats meanwhile


@dataclass(frozen=True)
class Traits:
    """How this person differs from a machine.

    Attributes:
        reaction_s: median delay from the call for help to the deadman.
        noise_rad: standard deviation of the hand, small near grasp and release.
        attempts: tries before giving up.
    """

    reaction_s: float = 0.5
    noise_rad: float = 0.01
    attempts: int = 3


class Phase(Enum):
    """What the person is doing."""

    WATCHING = "watching"
    REACTING = "reacting"
    REACHING = "waiting for control"
    HELPING = "helping"


class ScriptedHuman:
    """Decides, tick by tick, whether the deadman is down and where the arm should be.

    Args:
        task: what this person knows how to do.
        traits: of this person.
        seed: of delays and noise.
    """

    def __init__(self, task: type[Task], traits: Traits, seed: int = 0) -> None:
        self._task, self._traits = task, traits
        self._rng = np.random.default_rng(seed)
        self.phase = Phase.WATCHING
        self.reason = "nobody asked for help"
        self._begin_s = 0.0
        self._done_since_s = 0.0
        self._attempts = 0
        self._expert: Expert | None = None
        self._noise: FloatArray = np.zeros((2, len(task.joints)))

    @property
    def pressed(self) -> bool:
        """Whether the deadman is down."""
        return self.phase in (Phase.REACHING, Phase.HELPING)

    def ask(self, now_s: float) -> None:
        """Ask for help; asking again while it is given changes nothing."""
        if self.phase is Phase.WATCHING:
            delay = self._traits.reaction_s * np.exp(_REACTION_SPREAD * self._rng.standard_normal())
            self._begin_s = now_s + float(delay)
            self._attempts = 0
            self.phase, self.reason = Phase.REACTING, "asked for help"

    def leave(self, reason: str) -> None:
        """Let go."""
        self.phase, self.reason, self._expert = Phase.WATCHING, reason, None

    def step(
        self, now_s: float, joints: FloatArray | None, scene: Scene | None, in_control: bool
    ) -> FloatArray | None:
        """Decide one tick.

        Args:
            now_s: on the clock that the arm moves by.
            joints: (A,) command in force, or measured joints; None while not known.
            scene: what is seen, or None.
            in_control: this person's targets move the arm.

        Returns:
            (A,) target; None while there is none to give. See `pressed` for the deadman.
        """
        if self.phase is Phase.REACTING and now_s >= self._begin_s:
            self.phase = Phase.REACHING
        if joints is None or scene is None:
            if self.pressed:
                self.leave("the arm or the scene is out of sight")
            return None
        if self.phase is Phase.REACHING and in_control:
            self._try(now_s, joints, scene)
        elif self.phase is Phase.HELPING and not in_control:
            self.leave("control was taken away")
        if self.phase is not Phase.HELPING or self._expert is None:
            return joints
        time_s = now_s - self._begin_s
        target = self._target(self._expert, time_s)
        if not scene.success:
            self._done_since_s = now_s
        if now_s - self._done_since_s > LOOK_S:
            self.leave("done")
        elif time_s >= self._expert.duration_s:
            self._try(now_s, target, scene)
        return target

    def _try(self, now_s: float, joints: FloatArray, scene: Scene) -> None:
        """Plan from the joints, or let go: done, too many tries, or out of reach."""
        if scene.success:
            return self.leave("done")
        if self._attempts >= self._traits.attempts:
            return self.leave(f"gave up after {self._attempts} tries")
        try:
            expert = self._task.rescue(scene, joints)
        except ValueError as error:
            return self.leave(f"cannot help: {error}")
        self._attempts += 1
        self._expert, self._begin_s, self._done_since_s = expert, now_s, now_s
        self._noise = smooth_noise(
            _LONGEST_PLAN_S * self._task.rate_hz,
            self._traits.noise_rad,
            self._rng,
            self._task.noisy,
            self._task.rate_hz,
        )
        self._noise -= self._noise[0]  # the hand begins where the arm is
        self.phase, self.reason = Phase.HELPING, f"try {self._attempts}"
        return None

    def _target(self, expert: Expert, time_s: float) -> FloatArray:
        at = np.clip(time_s * self._task.rate_hz, 0, len(self._noise) - 1)
        low = int(at)
        high = min(low + 1, len(self._noise) - 1)
        noise = self._noise[low] + (at - low) * (self._noise[high] - self._noise[low])
        return expert.command(time_s) + expert.noise_scale(time_s) * noise
