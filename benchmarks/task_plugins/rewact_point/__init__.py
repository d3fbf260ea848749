"""A second task for the arm of `pick_place`, in the same scenes: its tips go over the cube."""

import math

import numpy as np

from rewact_ros.sim.pick_place.grasp_kinematics import tip_down, tip_of
from rewact_ros.sim.pick_place.task import PickPlace
from rewact_ros.sim.task import Task, Truth
from rewact_ros.sim.trajectory import Trajectory

OVER_M, NEAR_M, LOW_M, DWELL_S = 0.125, 0.02, 0.2, 0.5
_MAX_VELOCITY = np.array([1.1, 1.1, 1.1, 1.1, 1.3, 1.3, 5.0])  # rad/s; gripper 1/s


class Point(PickPlace):
    """Done once the tips have been over the cube for a while; there is no way to fail but time."""

    name, text = "point", "Point at the red cube."
    faults, retry_fault, settle_frames = (), "", round(DWELL_S * Task.rate_hz)
    progress = Task.__dict__["progress"]  # by the expert's pace, not by grasps

    @classmethod
    def policy_folder(cls):
        """None comes with it."""
        return None

    def reset(self, seed, keep_arm=False):
        """As that task's."""
        super().reset(seed, keep_arm)
        self._seed, self._since_s, self._done_s = seed, math.nan, math.nan

    def advance(self, duration_s):
        """Look after every step where the tips are."""
        super().advance(duration_s)
        x, y, height = tip_of(self.joint_positions())
        cube = self.cube_pose()[0]
        if math.hypot(x - cube[0], y - cube[1]) > NEAR_M or height > LOW_M:
            self._since_s = math.nan
        elif math.isnan(self._since_s):
            self._since_s = self.data.time
        elif self.data.time - self._since_s >= DWELL_S and math.isnan(self._done_s):
            self._done_s = float(self.data.time)

    def truth(self):
        """Whether they have been there long enough; what was done stays done."""
        done = not math.isnan(self._done_s)
        return Truth(self._seed, "done" if done else "point", done, self._done_s, "")

    def expert(self, rng=None, fault="", give_up=False, start=None):
        """Go there and stay."""
        return Over(self.command if start is None else start, self.cube_pose()[0])

    @classmethod
    def rescue(cls, scene, joints):
        """The same, from anywhere."""
        return Over(joints, scene.objects[:3])


class Over(Trajectory):
    """One move to a place over the cube (3,), then rest."""

    def __init__(self, start, cube):
        super().__init__(start, _MAX_VELOCITY)
        x, y, _ = cube
        over = np.append(tip_down(x, y, OVER_M, math.atan2(y, x)), 1.0)
        self.nominal_s = self.move_to(over, at_least_s=1.0)
        self.wait(1.0)
        self.command = self.position

    def noise_scale(self, t_s):
        """Little, once it is there."""
        return 1.0 if t_s < self.nominal_s else 0.1
