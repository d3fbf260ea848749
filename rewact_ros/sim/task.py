"""What a simulated task is, and which tasks there are.

A task is a robot with something to do: physics, cameras, the truth of how it went, and an expert
that shows it. Everything else (demonstrations, roll-outs, help, learning, nodes, commands) speaks
to this class alone. A package of its own adds a task by an entry point:

    [project.entry-points."rewact_ros.tasks"]
    reach = "my_package:Reach"
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rewact_ros.reward.labels import task_progress
from rewact_ros.sim.timing import COMMAND_HZ, RATE_HZ

FloatArray = NDArray[np.float64]
ENTRY_POINTS = "rewact_ros.tasks"
_ATTRIBUTES = ("name", "text", "joints", "cameras", "noisy")
DEFAULT_TASK = "pick_place"
_OWN = {
    "pick_place": "rewact_ros.sim.pick_place.task:PickPlace",
    "pick_place_cartesian": "rewact_ros.sim.pick_place.cartesian:PickPlaceCartesian",
    "aloha": "rewact_ros.sim.aloha.task:FAMILY",
    "metaworld": "rewact_ros.sim.metaworld.task:FAMILY",
    "hil": "rewact_ros.sim.hil.task:FAMILY",
    "so101": "rewact_ros.sim.so101.task:FAMILY",
}


class TaskError(ValueError):
    """There is no such task, or what is registered is none."""


@dataclass(frozen=True)
class Truth:
    """What really happened since the last reset.

    Attributes:
        seed: of that reset.
        stage: how far the task has come, a word of the task's own.
        success: done, and still so.
        success_time_s: seconds from the reset to the success, NaN before.
        failure: what went wrong and is not made good, a word of the task's own; "": nothing.
    """

    seed: int
    stage: str
    success: bool
    success_time_s: float
    failure: str


@dataclass(frozen=True)
class Scene:
    """What a person who looks at the robot sees.

    Attributes:
        seed: of the reset; what it places and nothing moves follows from it.
        stage, success: as in `Truth`.
        objects: (k,) where the things are that may have moved, as the task defines it.
    """

    seed: int
    stage: str
    success: bool
    objects: FloatArray


class Expert(Protocol):
    """A planned motion that does the task."""

    @property
    def duration_s(self) -> float:
        """Length of the plan."""

    @property
    def nominal_s(self) -> float:
        """When the plan has done what there is to do; what follows is retreat."""

    def command(self, t_s: float) -> FloatArray:
        """(A,) command at `t_s` since the plan's start."""

    def noise_scale(self, t_s: float) -> float:
        """How much of the motion noise the plan stands at `t_s`, 0 to 1."""


@dataclass(frozen=True)
class Course:
    """How an episode of n frames went, for its labels.

    Attributes:
        expert: what an undisturbed attempt in this scene would have been.
        state: (n, S) measured joints.
        truths: n.
        notes: n, what `Task.note` said at each frame.
    """

    expert: Expert
    state: NDArray[np.float32]
    truths: Sequence[Truth]
    notes: Sequence[float]


class Task(ABC):
    """A simulated robot and what it has to do; one thread uses it, cameras included.

    Args:
        width, height: camera image size in pixels.
        cameras: those that may be rendered; () needs no OpenGL.

    Attributes:
        name: by which it is found.
        text: what there is to do, one sentence.
        joints: of the robot, in the order of commands and positions.
        poses: first of the six `joints` of each pose (m, rotation vector in rad), where the robot
            takes poses.
        cameras: that the task offers; of an instance, those that may be rendered.
        noisy: (A,) share of the motion noise that each joint gets, in m per rad where it is an
            axis; True counts as 1, and a gripper gets none.
        rate_hz, command_hz: of observations and commands.
        faults: ways in which the expert fails for real when asked to.
        retry_fault: the one that the expert notices and makes good; "": none.
        settle_frames: from `Expert.nominal_s` until the truth can know of the success.
        needs: modules without which it does not run.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    joints: ClassVar[tuple[str, ...]]
    poses: ClassVar[tuple[int, ...]] = ()
    cameras: tuple[str, ...]
    noisy: ClassVar[tuple[float, ...]]
    rate_hz: ClassVar[int] = RATE_HZ
    command_hz: ClassVar[int] = COMMAND_HZ
    faults: ClassVar[tuple[str, ...]] = ()
    retry_fault: ClassVar[str] = ""
    settle_frames: ClassVar[int] = 0
    needs: ClassVar[tuple[str, ...]] = ("mujoco",)

    @abstractmethod
    def __init__(self, width: int, height: int, cameras: Sequence[str] = ()) -> None: ...

    # what it is -----------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def contract_file(cls) -> Path:
        """Contract of the robot."""

    @classmethod
    def policy_folder(cls) -> Path | None:
        """Checkpoint that comes with the task; None: none does."""
        return None

    @classmethod
    def robot_model(cls) -> str:
        """The robot as MJCF text, for a contract whose tool names no model.

        Raises:
            TaskError: the task has none.
        """
        raise TaskError(
            f"task {cls.name}: has no model of its robot; give tool.model in the contract"
        )

    # the robot ------------------------------------------------------------------------------

    @abstractmethod
    def reset(self, seed: int, keep_arm: bool = False) -> None:
        """Place everything as `seed` says; the same seed gives the same scene.

        Args:
            seed: non-negative.
            keep_arm: move the objects only; the robot keeps pose, speed and command.
        """

    @property
    @abstractmethod
    def command(self) -> FloatArray:
        """(A,) command in force."""

    @abstractmethod
    def set_command(self, q: FloatArray) -> None:
        """Set the (A,) position targets.

        Raises:
            ValueError: wrong shape or a value that is not finite.
        """

    @abstractmethod
    def advance(self, duration_s: float) -> None:
        """Let time pass."""

    @abstractmethod
    def joint_positions(self) -> FloatArray:
        """(S,) measured."""

    @abstractmethod
    def render(self, camera: str) -> NDArray[np.uint8]:
        """(H, W, 3) RGB; the next call may overwrite it."""

    def close(self) -> None:  # noqa: B027 (a task without a renderer has nothing to free)
        """Free what the interpreter's end would not."""

    def observe(self) -> dict[str, Any]:
        """What a policy sees now: measured joints (S,) float32, images (H, W, 3) uint8."""
        images = {f"observation.images.{camera}": self.render(camera) for camera in self.cameras}
        return {"observation.state": self.joint_positions().astype(np.float32), **images}

    # the task -------------------------------------------------------------------------------

    @abstractmethod
    def truth(self) -> Truth:
        """What really happened since the last reset; for judges and labels only."""

    def objects(self) -> FloatArray:
        """(k,) of `Scene`."""
        return np.zeros(0)

    def scene(self) -> Scene:
        """What a person sees now."""
        truth = self.truth()
        return Scene(truth.seed, truth.stage, truth.success, self.objects())

    @abstractmethod
    def expert(
        self,
        rng: np.random.Generator | None = None,
        fault: str = "",
        give_up: bool = False,
        start: FloatArray | None = None,
    ) -> Expert:
        """Plan the task from where everything is now.

        Args:
            rng: draws kind and size of the fault.
            fault: one of `faults`; "": none.
            give_up: with `retry_fault`: notice it, and end ready for another plan.
            start: (A,) where the motion begins; None: at the command in force.

        Raises:
            ValueError: unknown fault, or out of reach.
        """

    @classmethod
    def rescue(cls, scene: Scene, joints: FloatArray) -> Expert:
        """Plan from a robot that is anywhere, in the middle of the task, (A,) joints at rest.

        Raises:
            ValueError: there is no way to help from here.
        """
        raise ValueError(f"task {cls.name}: nobody here knows how to help")

    def note(self) -> float:
        """A figure of the truth that `progress` needs of every frame; NaN: it needs none."""
        return math.nan

    def push(self, force_n: FloatArray) -> None:  # noqa: B027 (nothing to push: nothing happens)
        """Let a force (3,) act on the task's object until the next call."""

    @classmethod
    def progress(cls, course: Course) -> NDArray[np.float32]:
        """Progress labels (n,) of an episode without a script, from what really happened.

        One attempt: it climbs to the success, or at the expert's pace to the failure. NaN, which
        means unknown, where neither was reached.
        """
        n = len(course.truths)
        success = next((k for k, truth in enumerate(course.truths) if truth.success), None)
        failure = next((k for k, truth in enumerate(course.truths) if truth.failure), None)
        if success is None and failure is None:
            return np.full(n, np.nan, np.float32)
        nominal = round(course.expert.nominal_s * cls.rate_hz) + cls.settle_frames
        if success is not None:
            failure = None  # the last word counts
        return task_progress(n, nominal, success_frame=success, failure_frame=failure)


class Family(Protocol):
    """Many tasks under one entry: `FAMILY/NAME`.

    Attributes:
        names: of the tasks.
    """

    names: tuple[str, ...]

    def task(self, name: str) -> type[Task]:
        """The task of a name.

        Raises:
            TaskError: no such task, or what it needs is not installed.
        """


def task_names() -> tuple[str, ...]:
    """Names of ours, then those of other packages; of a family its own, see `find_task`."""
    others = (point.name for point in entry_points(group=ENTRY_POINTS))
    return (*_OWN, *sorted(set(others) - set(_OWN)))


def find_task(name: str) -> type[Task]:
    """The task of a name, or `FAMILY/NAME`; only what an installed package registers is imported.

    Raises:
        TaskError: no such task, or it cannot be imported.
    """
    entry, of_family, member = name.partition("/")
    try:
        found = _loaders()[entry]()
    except KeyError:
        raise TaskError(f"task: expected one of {', '.join(task_names())}, got '{name}'") from None
    except (ImportError, AttributeError) as error:
        raise TaskError(f"task {entry}: its package does not import: {error}") from error
    if _is_family(found):
        if not member:
            raise TaskError(f"task {entry}: expected {entry}/ and one of {', '.join(found.names)}")
        if member not in found.names:
            raise TaskError(f"task {name}: expected one of {', '.join(found.names)}")
        found = found.task(member)
    elif of_family:
        raise TaskError(f"task {entry}: expected '{entry}', which has no parts, got '{name}'")
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise TaskError(
            f"task {name}: expected a subclass of rewact_ros.sim.task.Task, got {found!r}"
        )
    _check(name, found)
    return found


def _check(name: str, kind: type[Task]) -> None:
    """Refuse a class that is not all of a task, before anything trusts it."""
    methods = sorted(getattr(kind, "__abstractmethods__", ()))
    lacking = [*methods, *(word for word in _ATTRIBUTES if not hasattr(kind, word))]
    if lacking:
        raise TaskError(f"task {name}: {kind.__name__} lacks {', '.join(lacking)}")
    wrong = ""
    if not kind.joints or len(kind.noisy) != len(kind.joints):
        wrong = f"noisy: expected {len(kind.joints)} numbers, one a joint, got {kind.noisy}"
    elif kind.rate_hz < 1 or kind.command_hz % kind.rate_hz:
        wrong = (
            f"command_hz: expected a multiple of {kind.rate_hz} (rate_hz), got {kind.command_hz}"
        )
    elif kind.retry_fault not in ("", *kind.faults):
        wrong = f"retry_fault: expected '' or one of faults, got '{kind.retry_fault}'"
    if wrong:
        raise TaskError(f"task {name}: {kind.__name__}.{wrong}")


def _is_family(found: Any) -> TypeGuard[Family]:
    return isinstance(getattr(found, "names", None), tuple) and callable(
        getattr(found, "task", None)
    )


@contextmanager
def open_task(name: str, height: int, width: int) -> Iterator[Task]:
    """Give a task with all its cameras at a size in pixels, and close it at the end.

    Raises:
        TaskError: as `find_task`.
        SimulationUnavailableError: a part that the simulation needs is missing.
    """
    kind = find_task(name)
    task = kind(width, height, kind.cameras)
    try:
        yield task
    finally:
        task.close()


def _loaders() -> dict[str, Callable[[], Any]]:
    loaders: dict[str, Callable[[], Any]] = {
        point.name: point.load for point in entry_points(group=ENTRY_POINTS)
    }
    return loaders | {name: lambda place=place: _load(place) for name, place in _OWN.items()}


def _load(place: str) -> Any:
    # Ours are imported when asked for: a list of names must not cost an import.
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
