"""Executed robot steps become chunk-level transitions.

A step is what happened between two observations: its action is the command in force at the step's
end, whoever gave it. A transition is a run of steps that one source decided together.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

STATE = "observation.state"
IMAGES = "observation.images"  # (cameras, H, W, 3) uint8
CANDIDATES = "base"  # (N, steps, A) the base policy's chunks, its own plan first
PROGRESS = "progress"  # () the frozen reward head's

Observation = dict[str, NDArray[Any]]


class TransitionError(ValueError):
    """A step that must not be learned from; the message says which value."""


def pack_observation(observation: Observation) -> bytes:
    """An observation as a safetensors document, as it travels."""
    return save({name: np.asarray(value, order="C") for name, value in observation.items()})


def unpack_observation(document: bytes) -> Observation:
    """What ``pack_observation`` packed.

    Raises:
        TransitionError: it is damaged.
    """
    try:
        return load(document)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TransitionError(f"observation: damaged ({error}); it is left out") from error


@dataclass(frozen=True)
class FrameSpec:
    """What an observation is made of: name -> (shape, dtype)."""

    arrays: dict[str, tuple[tuple[int, ...], str]]
    action_dim: int

    def check(self, observation: Observation) -> None:
        """Raise unless names, shapes and types are these and every number is finite.

        Raises:
            TransitionError: the first that is not.
        """
        if observation.keys() != self.arrays.keys():
            raise TransitionError(
                f"observation: expected {sorted(self.arrays)}, got {sorted(observation)}"
            )
        for name, (shape, dtype) in self.arrays.items():
            value = observation[name]
            if value.shape != shape or value.dtype != dtype:
                raise TransitionError(
                    f"{name}: expected shape {shape} {dtype}, got {value.shape} {value.dtype}"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise TransitionError(f"{name}: holds a value that is not finite; it is refused")

    @property
    def bytes_per_frame(self) -> int:
        """Size of one observation."""
        return sum(
            int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self.arrays.values()
        )


@dataclass(frozen=True)
class Transition:
    """k steps that one source decided together.

    Attributes:
        episode: its name.
        first: number of its first step in the episode.
        observations: per name (k + 1, ...): before each step, and after the last; the last one of
            an episode is the true terminal observation.
        action: (k, A) float32 executed, contract units.
        reward: (k,) float32 verified reward, without shaping.
        human: who gave the commands.
        policy_version: of the policy that decided; "" for a human's.
        value: what the critic expected of the decision when it was made, NaN if nobody asked.
        terminated: nothing that follows counts: the episode ended by success or failure, or the
            policy called for help. A rescue is no merit of who needed it: if its reward counted, a
            policy would learn to stall until somebody comes.
        truncated: the episode was cut off after it: what follows still counts.
        success: the episode ended by success with it, whatever it earned.
        record: as the journal keeps it, of a transition that was read or received; empty: of one
            that was made here, or that ``dataclasses.replace`` has changed.
    """

    episode: str
    first: int
    observations: dict[str, NDArray[Any]]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    human: bool
    policy_version: str = ""
    value: float = float("nan")
    terminated: bool = False
    truncated: bool = False
    success: bool = False
    # No argument, so that a changed copy never travels in the record of what it was made from.
    record: bytes = field(default=b"", init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.action)

    @property
    def ended(self) -> bool:
        """Whether the turn ended after it."""
        return self.terminated or self.truncated


@dataclass
class _Open:
    """A transition in the making."""

    first: int
    human: bool
    version: str
    value: float
    observations: list[Observation] = field(default_factory=list)
    action: list[NDArray[np.float32]] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)


class TransitionBuilder:
    """Collects the steps of one episode after another.

    Args:
        spec: what an observation is made of.
        steps: of a decision; a longer turn of a human is cut into transitions of so many.
    """

    def __init__(self, spec: FrameSpec, steps: int) -> None:
        self._spec, self._steps = spec, steps
        self._episode = ""
        self._next = 0
        self._open: _Open | None = None

    def begin(self, episode: str) -> None:
        """Start an episode; one that was not ended is forgotten, so end it first."""
        self._episode, self._next, self._open = episode, 0, None

    def add(
        self,
        observation: Observation,
        action: NDArray[np.floating],
        human: bool = False,
        policy_version: str = "",
        value: float = float("nan"),
        decided: bool = False,
        reward: float = 0.0,
    ) -> Transition | None:
        """Take an executed step.

        Args:
            observation: before it.
            action: (A,) command in force at its end.
            human, policy_version, value: as in ``Transition``.
            decided: a new decision begins with this step.
            reward: of the step before it, which the observation ended; none if that is in no
                transition.

        Returns:
            the transition that this step's observation completes, if any. A takeover completes the
            policy's, however short it is.

        Raises:
            TransitionError: a value that is not finite or of another shape; nothing is kept.
        """
        self._spec.check(observation)
        executed = np.asarray(action, np.float32)
        if executed.shape != (self._spec.action_dim,) or not np.isfinite(executed).all():
            raise TransitionError(
                f"action: expected {self._spec.action_dim} finite numbers, got {executed}"
            )
        self._earn(reward)
        done, opened = None, self._open
        if opened and (decided or opened.human != human or len(opened.action) >= self._steps):
            done, self._open = self._close(observation), None
        if self._open is None:
            self._open = _Open(self._next, human, "" if human else policy_version, value)
        self._open.observations.append(observation)
        self._open.action.append(executed)
        self._open.reward.append(0.0)
        self._next += 1
        return done

    def cut(self, observation: Observation, reward: float = 0.0) -> Transition | None:
        """End the policy's turn: it calls for help.

        Args:
            observation: the last one.
            reward: of the last step.

        Returns:
            its last transition, terminated; None: it has just begun.

        Raises:
            TransitionError: as ``add``.
        """
        return self.end(observation, True, reward, success=False)

    def pause(self, observation: Observation) -> Transition | None:
        """Break a turn off that is not over: nobody leads, or what is done is not known.

        Args:
            observation: the last one.

        Returns:
            what there is of its last transition; None: it has just begun.

        Raises:
            TransitionError: as ``add``.
        """
        self._spec.check(observation)
        if self._open is None:
            return None
        done, self._open = self._close(observation), None
        return done

    def skip(self) -> None:
        """Let a robot step pass that nobody decided: the robot holds."""
        self._next += 1

    def end(
        self,
        observation: Observation,
        terminated: bool,
        reward: float = 0.0,
        success: bool | None = None,
    ) -> Transition | None:
        """End the episode with its last observation.

        Args:
            observation: the last one.
            terminated: as in ``Transition``; else it is truncated.
            reward: of the last step.
            success: as in ``Transition``; None: where a terminated one has a reward.

        Raises:
            TransitionError: as ``add``.
        """
        self._spec.check(observation)
        self._earn(reward)
        if self._open is None:
            return None
        success = terminated and reward > 0 if success is None else success
        done = self._close(observation, terminated, not terminated, success)
        self._open = None
        return done

    def _earn(self, reward: float) -> None:
        """The last step's reward is known."""
        if not np.isfinite(reward):
            raise TransitionError(f"reward: expected a finite number, got {reward}")
        if self._open is not None:
            self._open.reward[-1] += reward

    def _close(
        self,
        after: Observation,
        terminated: bool = False,
        truncated: bool = False,
        success: bool = False,
    ) -> Transition:
        opened = self._open
        assert opened is not None
        seen = [*opened.observations, after]
        return Transition(
            episode=self._episode,
            first=opened.first,
            observations={name: np.stack([o[name] for o in seen]) for name in after},
            action=np.stack(opened.action),
            reward=np.array(opened.reward, np.float32),
            human=opened.human,
            policy_version=opened.version,
            value=opened.value,
            terminated=terminated,
            truncated=truncated,
            success=success,
        )
