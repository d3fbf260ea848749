"""Node `sim` with three faults, each started by a service.

- `~/cover_camera`: both cameras see darkness with a sensor's noise;
- `~/remove_object`: the cube is gone from the table, out of sight, until the next reset;
- `~/block_arm`: the arm no longer follows the commands;
- `~/mend`: sight and motion are back.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from std_srvs.srv import Trigger

from rewact_ros.nodes.sim import SimNode
from rewact_ros.ros.commands import Decode
from rewact_ros.ros.images import camera_message
from rewact_ros.ros.process import run_node

FAULTS = ("cover_camera", "remove_object", "block_arm")
_DARK = 10  # of 255
_GONE_M = (-1.5, 0.0, -0.55)  # on the floor behind the arm


class FaultySimNode(SimNode):
    """The simulated robot, and what may happen to one."""

    def __init__(self) -> None:
        self._covered = self._blocked = False
        self._sensor = np.random.default_rng(0)
        super().__init__()
        for start in (self.cover_camera, self.remove_object, self.block_arm, self.mend):
            self.create_service(
                Trigger, f"~/{start.__name__}", lambda req, res, start=start: self._do(start, res)
            )

    def cover_camera(self) -> None:
        """Put a cap on the lenses."""
        self._covered = True

    def remove_object(self) -> None:
        """Take the cube away."""
        cube = self.sim.data.joint("cube")
        cube.qpos[:3], cube.qvel[:] = _GONE_M, 0.0

    def block_arm(self) -> None:
        """Let the servos keep their last target."""
        self._blocked = True

    def mend(self) -> None:
        """Undo all but the removal, which the next reset undoes."""
        self._covered = self._blocked = False

    def _do(self, start: Callable[[], None], response: Trigger.Response) -> Trigger.Response:
        start()
        response.success = True
        return response

    def _on_command(self, decode: Decode, columns: slice, msg: Any) -> None:
        if self._blocked:
            self._last_command_s = time.monotonic()  # a controller is there all the same
        else:
            super()._on_command(decode, columns, msg)

    def _publish_cameras(self, stamp: Time) -> None:
        if not self._covered:
            super()._publish_cameras(stamp)
            return
        for camera in reversed(self.contract.cameras):
            dark = self._sensor.integers(0, _DARK, camera.shape, dtype=np.uint8)
            frame = f"{camera.name}_optical_frame"
            self._image_pubs[camera.name].publish(camera_message(camera, dark, stamp, frame))


def main() -> None:
    """Entry point."""
    run_node(FaultySimNode, (ValueError, RuntimeError, ImportError))


if __name__ == "__main__":
    main()
