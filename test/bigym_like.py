"""What BiGym's environments look like from outside, in a file that knows nothing of this package.

As in BiGym (bigym_env.py): a plain class without a registered id, whose factory takes objects;
proprioception in several vectors; cameras as `rgb_NAME`, channels first; `task_success` as a float;
500 steps of physics a second as `render_fps`; a seed that must be an `int`; and scenes drawn from
NumPy's global generator.
"""

import os
import sys
import time

import gymnasium
import numpy as np


class ReachTargetLike(gymnasium.Env):
    """Done when the fourth step was taken, unless it is to fail otherwise."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 500.0}  # noqa: RUF012

    def __init__(self, cameras=("head", "right_wrist"), edge=32, fault=""):
        self.cameras, self.edge, self.fault, self.render_mode = cameras, edge, fault, "rgb_array"
        box = gymnasium.spaces.Box
        self.observation_space = gymnasium.spaces.Dict(
            {
                "proprioception": box(-np.inf, np.inf, (6,), np.float32),
                "proprioception_grippers": box(0, 1, (2,), np.float32),
                **{f"rgb_{name}": box(0, 255, (3, edge, edge), np.uint8) for name in cameras},
            }
        )
        self.action_space = box(-1, 1, (5,), np.float32)
        if fault == "discrete":
            self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        if not isinstance(seed, int):
            raise ValueError("Expected start_seed to be an integer.")
        np.random.seed(seed)
        self.target, self.count = np.random.uniform(size=3).astype(np.float32), 0
        if self.fault == "seedless":
            self.target = np.full(3, time.monotonic_ns() % 1000, np.float32)
        if self.fault == "old":
            return self._observe()
        return self._observe(), self._info()

    def step(self, action):
        assert action.shape == (5,) and action.dtype == np.float32
        self.count += 1
        if self.count == 3 and self.fault == "dies":
            os._exit(3)
        if self.count == 3 and self.fault == "raises":
            raise RuntimeError("Physics is unstable")
        if self.count == 3 and self.fault == "hangs":
            time.sleep(3600)
        done = self.count == 4
        return self._observe(), float(done), done, False, self._info()

    def render(self):
        return np.moveaxis(self._observe()["rgb_head"], 0, -1)

    def _observe(self):
        pixels = np.random.default_rng(0).integers(0, 255, (3, self.edge, self.edge), np.uint8)
        pixels[0] = 200  # red
        return {
            "proprioception": np.concatenate([self.target, np.zeros(3, np.float32)]),
            "proprioception_grippers": np.array([0.25, 0.75], np.float32),
            **{f"rgb_{name}": pixels for name in self.cameras},
        }

    def _info(self):
        others = [name for name in ("rewact_ros", "torch", "lerobot") if name in sys.modules]
        said = {} if self.fault == "silent" else {"task_success": float(self.count == 4)}
        return {"others": ",".join(others), "target": self.target, **said}


def make(**arguments):
    """The factory that a person writes in BiGym's environment."""
    return ReachTargetLike(**arguments)
