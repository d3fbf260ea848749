"""A task in one file: a planar arm reaches for a point. Points are complex numbers, in m."""

import cmath
import math
from pathlib import Path

import numpy as np

from rewact_ros.sim.task import Task, Truth
from rewact_ros.sim.trajectory import Trajectory

LINK_M, NEAR_M, DWELL_S, LAG_S = 0.3, 0.03, 0.3, 0.05


class Reach(Task):
    """The tip goes to the red point and stays there; `objects`: that point (2,) in m."""

    name, text = "reach", "Reach the red point."
    joints, cameras, noisy = ("shoulder", "elbow"), ("top",), (True, True)
    faults, needs = ("short",), ()
    settle_frames = round(DWELL_S * Task.rate_hz)
    command = np.zeros(2)

    def __init__(self, width=64, height=64, cameras=()):
        self.cameras, self._size = tuple(cameras), (height, width)
        self.reset(0)

    @classmethod
    def contract_file(cls):
        return Path(__file__).with_name("contract.yaml")

    def reset(self, seed, keep_arm=False):
        rng = np.random.default_rng(seed)
        self._goal = cmath.rect(rng.uniform(0.25, 0.5), rng.uniform(-0.7, 0.7))
        if not keep_arm:
            self._q = self.command = rng.uniform((-0.5, 2.0), (0.5, 2.8))  # folded
        self._seed, self._moved = seed, False
        self._now_s = self._near_s = self._stuck_s = 0.0

    def set_command(self, q):
        if np.shape(q) != (2,) or not np.isfinite(q).all():
            raise ValueError(f"command {q}: expected 2 finite numbers")
        self.command = np.clip(q, (-1.6, 0.0), (1.6, 2.9))

    def advance(self, duration_s):
        step = (self.command - self._q) * -math.expm1(-duration_s / LAG_S)  # a servo that lags
        self._q, self._now_s = self._q + step, self._now_s + duration_s
        moves = bool(np.abs(step).max() > 0.05 * duration_s)
        near = abs(tip(self._q) - self._goal) < NEAR_M
        self._moved |= moves
        self._near_s = self._near_s + duration_s if near else 0.0
        self._stuck_s = self._stuck_s + duration_s if self._moved > moves + near else 0.0

    def joint_positions(self):
        return self._q.copy()

    def render(self, camera):
        picture, elbow = np.full((*self._size, 3), 30, np.uint8), cmath.rect(LINK_M, self._q[0])
        shares, (height, width) = np.linspace(0, 1, 40), self._size
        links = [*(shares * elbow), *(elbow + shares * (tip(self._q) - elbow))]
        for place, colour in [*((place, 255) for place in links), (self._goal, (230, 40, 40))]:
            row, column = int((0.5 - place.imag / 1.3) * height), int((place.real + 0.2) * width)
            picture[row - 1 : row + 2, column - 1 : column + 2] = colour
        return picture

    def truth(self):
        done, missed = self._near_s >= DWELL_S, self._stuck_s >= DWELL_S
        done_s = self._now_s - self._near_s + DWELL_S if done else math.nan
        stage, failure = "done" if done else "reach", "missed" if missed else ""
        return Truth(self._seed, stage, done, done_s, failure)

    def objects(self):
        return np.array([self._goal.real, self._goal.imag])

    def expert(self, rng=None, fault="", give_up=False, start=None):
        goal = (tip(self._q) + self._goal) / 2 if fault else self._goal  # it stops on its way
        return Plan(self.command if start is None else start, goal)

    @classmethod
    def rescue(cls, scene, joints):
        return Plan(joints, complex(*scene.objects))


class Plan(Trajectory):
    """One move to a point, then rest."""

    def __init__(self, start, goal):
        super().__init__(start, max_velocity=np.ones(2))
        elbow = 2 * math.acos(abs(goal) / (2 * LINK_M))
        target = np.array([cmath.phase(goal) - elbow / 2, elbow])
        self.nominal_s = self.move_to(target, at_least_s=0.8)
        self.wait(1.0)
        self.command = self.position

    def noise_scale(self, t_s):
        return 1.0 if t_s < self.nominal_s else 0.1  # else it would not stay at the point


def tip(q):
    return cmath.rect(LINK_M, q[0]) + cmath.rect(LINK_M, q[0] + q[1])
