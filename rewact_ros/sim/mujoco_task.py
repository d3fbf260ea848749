"""What simulated tasks on MuJoCo have in common: physics, cameras, contacts, plans by trial."""

from __future__ import annotations

import copy
import functools
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rewact_ros.mujoco_backend import load_mujoco, make_renderer
from rewact_ros.sim.attempts import AttemptJudge, Look, attempts_progress
from rewact_ros.sim.task import Course, Expert, FloatArray, Scene, Task, Truth
from rewact_ros.sim.tried_plan import Script, TriedPlan, try_out

_THING, _ROBOT = 1, 2
_NOTICE_S = 0.15  # from a failure until it is noticed, where it is to be made good
_DRAWS = 5
_CONTACT = (0.2, 0.7)  # share of the contact after which a fault breaks it off
_FAILED_S = 1.2  # and until a plan that shall fail ends


class MujocoTask(Task):
    """A robot in MuJoCo whose expert is a script that looks at the truth.

    Attributes:
        views: camera of the task -> camera of the model.
        robots: bodies from which the robot's tree of bodies hangs.
        fingers: body of one finger -> the other: both at a thing hold it.
        faults: the thing is believed elsewhere; let go under way; motion stops under way.
        longest_s: of a scripted attempt.
        pace: physical seconds in a second of the task's clock.
    """

    views: ClassVar[Mapping[str, str]]
    robots: ClassVar[tuple[str, ...]]
    fingers: ClassVar[Mapping[str, str]]
    longest_s: ClassVar[float] = 20.0
    pace: ClassVar[float] = 1.0
    faults = ("missed", "let_go", "stopped")
    retry_fault = "missed"

    def __init__(self, width: int = 96, height: int = 96, cameras: Sequence[str] = ()) -> None:
        unknown = sorted(set(cameras) - set(self.views))
        if unknown:
            raise ValueError(f"camera {unknown[0]!r}: expected some of {', '.join(self.views)}")
        self.cameras = tuple(cameras)
        self._mj = load_mujoco()
        self.model, self.data = self._make()
        # A model may be drawn for small pictures only.
        drawn = self.model.vis.global_
        drawn.offwidth, drawn.offheight = max(width, drawn.offwidth), max(height, drawn.offheight)
        # Software rendering is 5 to 30 times faster without these.
        self.model.vis.quality.offsamples = 0
        self.model.light_castshadow[:] = 0
        self.model.mat_reflectance[:] = 0
        self._index()
        self._renderer = make_renderer(self.model, height, width) if cameras else None
        self._visible = self._mj.MjvOption()
        self._command: FloatArray = np.zeros(len(self.joints))
        self._ticks = 0
        self._resting: NDArray[np.int64] = np.zeros(0, np.int64)
        self._met: set[int] = set()  # since the last look, as contacts may be short
        self.reset(0)

    # of a suite -----------------------------------------------------------------------------

    @abstractmethod
    def _make(self) -> tuple[Any, Any]:
        """Model and data."""

    @abstractmethod
    def _place(self, seed: int) -> FloatArray:
        """Place robot and things as the seed says; returns the (A,) command at the start."""

    @abstractmethod
    def _apply(self, command: FloatArray) -> None:
        """Write an (A,) command into controls and mocap bodies."""

    @abstractmethod
    def _success(self) -> bool:
        """What the environment says."""

    @abstractmethod
    def _tools(self) -> FloatArray:
        """(k,) positions of the tools, m."""

    @abstractmethod
    def _script(self, fault: str, rng: np.random.Generator, breaks_off: int) -> Script:
        """An expert that sees the truth, and makes a fault: the last two at a frame."""

    def _step(self, count: int) -> None:
        """Take steps of the physics; a task whose controller acts in each overrides it."""
        self._mj.mj_step(self.model, self.data, nstep=count)

    def _stage(self, met: set[int]) -> str:
        """How far the task has come; of the fingers that touch a thing, by their bodies.

        `touch`: some part of the robot touches a thing; `hold`: both fingers do.
        """
        if any(one in met and other in met for one, other in self._fingers):
            return "hold"
        return "touch" if met else "reach"

    def _empty(self) -> bool:
        """Whether fingers have closed on nothing that should hold a thing."""
        return False

    def _out_of_reach(self) -> bool:
        """Whether a thing lies where the robot cannot go."""
        return False

    def _withdrawn(self, command: FloatArray) -> FloatArray:
        """(A,) from where another attempt can begin, after one that ended at a command."""
        return command

    def _memory(self) -> dict[str, Any]:
        """What the suite remembers beside MuJoCo's state, to be put back by `_remember`."""
        return {}

    def _remember(self, memory: dict[str, Any]) -> None:
        """Put back what `_memory` gave."""

    # the robot ------------------------------------------------------------------------------

    def reset(self, seed: int, keep_arm: bool = False) -> None:
        if seed < 0:
            raise ValueError(f"seed {seed}: expected 0 or more")
        arm = self._arm() if keep_arm else None
        start = self._place(seed)
        if arm is None:
            self._command = start
        else:
            self._set_arm(arm)
        self._apply(self._command)
        self._mj.mj_forward(self.model, self.data)
        self._began_s, self._ticks, self._met = float(self.data.time), 0, set()
        self._judge = AttemptJudge(seed)
        # What a scene places against the robot it has not touched.
        self._resting = self.data.contact.geom @ (self.model.ngeom, 1)
        self._look()

    @property
    def command(self) -> FloatArray:
        return self._command.copy()

    def set_command(self, q: FloatArray) -> None:
        q = np.asarray(q, dtype=np.float64)
        if q.shape != (len(self.joints),):
            raise ValueError(
                f"command of shape {q.shape}: expected ({len(self.joints)},) for "
                f"{', '.join(self.joints)}"
            )
        if not np.isfinite(q).all():
            bad = self.joints[int(np.flatnonzero(~np.isfinite(q))[0])]
            raise ValueError(f"command for joint {bad!r} is not finite; nothing was sent")
        self._command = q.copy()
        self._apply(self._command)

    def advance(self, duration_s: float) -> None:
        """Step the physics by a whole number of command ticks.

        Raises:
            ValueError: any other duration.
        """
        ticks = round(duration_s * self.command_hz)
        if ticks < 0 or not math.isclose(ticks, duration_s * self.command_hz, abs_tol=1e-6):
            raise ValueError(
                f"advance by {duration_s} s: expected a multiple of 1/{self.command_hz} s"
            )
        for _ in range(ticks):
            self._ticks += 1
            # Steps that end nearest to the tick, where a tick is no whole number of them.
            now_s = self._began_s + self._ticks / self.command_hz * self.pace
            steps = round((now_s - float(self.data.time)) / self.model.opt.timestep)
            self._step(steps)
            self._met |= self._contacts()
            if self._ticks % (self.command_hz // self.rate_hz) == 0:
                # Poses and contacts are those before the last step until they are computed anew.
                self._mj.mj_forward(self.model, self.data)
                self._look()

    def render(self, camera: str) -> NDArray[np.uint8]:
        if camera not in self.cameras:
            raise ValueError(f"camera {camera!r}: expected one of {self.cameras}")
        if self._renderer is None:
            raise RuntimeError("the simulation is closed")
        self._renderer.update_scene(
            self.data, camera=self.views[camera], scene_option=self._visible
        )
        return self._renderer.render()

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()  # left to the interpreter's exit, EGL prints errors
            self._renderer = None

    # the task -------------------------------------------------------------------------------

    def truth(self) -> Truth:
        return self._judge.truth()

    def objects(self) -> FloatArray:
        """(nq,) positions of all joints of the model, the robot's among them."""
        return np.asarray(self.data.qpos).copy()

    def push(self, force_n: FloatArray) -> None:
        self.data.xfrc_applied[self._pushed, :3] = force_n

    def expert(
        self,
        rng: np.random.Generator | None = None,
        fault: str = "",
        give_up: bool = False,
        start: FloatArray | None = None,
    ) -> TriedPlan:
        if fault and fault not in self.faults:
            raise ValueError(f"fault {fault!r}: expected one of {', '.join(self.faults)}")
        rng = rng if rng is not None else np.random.default_rng(0)
        start = self.command if start is None else np.asarray(start, np.float64)
        good = None
        if fault in ("let_go", "stopped"):
            good = try_out(self, self._script("", rng, 0), start, self.longest_s)
        patience_s = _NOTICE_S if give_up else _FAILED_S if fault else math.inf
        for _ in range(_DRAWS if fault else 1):
            breaks_off = self._breaks_off(good, rng) if good else 0
            script = self._script(fault, rng, breaks_off)
            plan = try_out(self, script, start, self.longest_s, patience_s)
            if plan.truth.failure:
                break  # else the fault was too small to matter, or too early: another is drawn
        return plan.then(self._withdrawn(plan.targets[-1])) if give_up else plan

    def _breaks_off(self, good: TriedPlan, rng: np.random.Generator) -> int:
        """Frame at which a fault breaks a good plan off, while robot and thing are in touch."""
        met_s = good.touch_s if good.touch_s < good.nominal_s else 0.0
        at_s = met_s + (good.nominal_s - met_s) * rng.uniform(*_CONTACT)
        return max(1, round(at_s * self.rate_hz))

    @classmethod
    def rescue(cls, scene: Scene, joints: FloatArray) -> Expert:
        return _imagined(cls)._from(scene, np.asarray(joints, np.float64)).expert(start=joints)

    @classmethod
    def progress(cls, course: Course) -> NDArray[np.float32]:
        assert isinstance(course.expert, TriedPlan)
        return attempts_progress(course, course.expert, cls.rate_hz)

    @contextmanager
    def turned_back(self) -> Iterator[None]:
        """Undo at the end all that happens inside."""
        spec = self._mj.mjtState.mjSTATE_INTEGRATION
        state = np.empty(self._mj.mj_stateSize(self.model, spec))
        self._mj.mj_getState(self.model, self.data, state, spec)
        own = self._command.copy(), self._ticks, copy.copy(self._judge), self._met, self._memory()
        try:
            yield
        finally:
            self._mj.mj_setState(self.model, self.data, state, spec)
            self._mj.mj_forward(self.model, self.data)
            self._mj.mj_setState(self.model, self.data, state, spec)  # the solver's warm start
            self._command, self._ticks, self._judge, self._met, memory = own
            self._remember(memory)

    def _from(self, scene: Scene, command: FloatArray) -> MujocoTask:
        """The scene of a seed as somebody sees it now."""
        self.reset(scene.seed)
        self.data.qpos[:] = scene.objects
        self.data.qvel[:] = 0
        self.set_command(command)
        self._mj.mj_forward(self.model, self.data)
        self._judge = AttemptJudge(scene.seed)
        self._resting = np.zeros(0, np.int64)  # it may be held already
        return self

    def _look(self) -> None:
        met = self._met | self._contacts()
        self._met = set()
        self._judge.step(
            Look(
                time_s=self._ticks / self.command_hz,
                success=self._success(),
                stage=self._stage(met),
                touching=len(met) > 0,
                empty=self._empty() and not met,
                out_of_reach=self._out_of_reach(),
                tools=self._tools(),
            )
        )

    def _contacts(self) -> set[int]:
        """Fingers that touch a thing, by their bodies; 0 for other parts of the robot."""
        pairs = self.data.contact.geom
        met = pairs[self._kind[pairs].sum(axis=1) == _THING + _ROBOT]
        if len(self._resting) and len(met):
            codes = met @ (self.model.ngeom, 1)
            met = met[~np.isin(codes, self._resting)]
        return set(self._finger[met].max(axis=1).tolist())

    def _body(self, name: str) -> int:
        return int(self.model.body(name).id)

    def _index(self) -> None:
        """What each geom belongs to, and which joints are the robot's."""
        model = self.model
        roots = {self._body(name) for name in self.robots}
        self._fingers = [tuple(map(self._body, pair)) for pair in self.fingers.items()]
        pads = {body for pair in self._fingers for body in pair}
        parents, welds = model.body_parentid, model.body_weldid
        chains = [_chain(parents, body) for body in range(model.nbody)]
        robot = np.array([bool(roots & set(chain)) for chain in chains])
        moves = welds != 0
        body_kind = np.where(robot, _ROBOT, np.where(moves, _THING, 0))
        self._kind = body_kind[model.geom_bodyid]
        finger = np.array([next((b for b in chain if b in pads), 0) for chain in chains])
        self._finger = finger[model.geom_bodyid]
        self._arm_joints = robot[model.jnt_bodyid]
        self._arm_qpos = _addresses(model.jnt_qposadr, model.nq, self._arm_joints)
        self._arm_qvel = _addresses(model.jnt_dofadr, model.nv, self._arm_joints)
        things = np.flatnonzero(moves & ~robot & (model.body_mocapid < 0))
        self._pushed = int(things[0]) if len(things) else 0

    def _arm(self) -> tuple[FloatArray, FloatArray]:
        return self.data.qpos[self._arm_qpos].copy(), self.data.qvel[self._arm_qvel].copy()

    def _set_arm(self, arm: tuple[FloatArray, FloatArray]) -> None:
        self.data.qpos[self._arm_qpos], self.data.qvel[self._arm_qvel] = arm


def missed_by(fault: str, rng: np.random.Generator, between_m: tuple[float, float]) -> FloatArray:
    """(3,) m that a thing is believed to lie beside its place; 0 but for the fault `missed`."""
    shift = np.zeros(3)
    if fault == "missed":
        angle = rng.uniform(-math.pi, math.pi)
        shift[:2] = rng.uniform(*between_m) * np.array([math.cos(angle), math.sin(angle)])
    return shift


@functools.cache
def _imagined(kind: type[MujocoTask]) -> MujocoTask:
    """Where a helper thinks: a simulation of its own, without cameras."""
    return kind(96, 96)


def _chain(parents: NDArray[np.int32], body: int) -> list[int]:
    """The body and all that it hangs from, the world apart."""
    chain = []
    while body:
        chain.append(body)
        body = int(parents[body])
    return chain


def _addresses(
    starts: NDArray[np.int32], size: int, chosen: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Places in a vector of all joints that belong to the chosen ones."""
    ends = np.append(starts[1:], size)
    spans = [
        np.arange(begin, end) for begin, end, take in zip(starts, ends, chosen, strict=True) if take
    ]
    return np.concatenate(spans) if spans else np.zeros(0, np.int64)


def look_at(
    model: Any,
    camera: str,
    eye: tuple[float, float, float],
    target: tuple[float, float, float],
    fovy_deg: float,
) -> None:
    """Put a fixed camera of a model at a place (m), turned to another, upright."""
    back = np.subtract(eye, target)
    back /= np.linalg.norm(back)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    rotation = np.column_stack([right, np.cross(back, right), back])
    quaternion = np.zeros(4)
    load_mujoco().mju_mat2Quat(quaternion, rotation.ravel())
    place = model.camera(camera)
    place.pos, place.quat, place.fovy = eye, quaternion, fovy_deg
    place.mode = 0  # fixed
