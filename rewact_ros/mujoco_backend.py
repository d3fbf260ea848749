"""Loading of MuJoCo and of an off-screen OpenGL backend, with a mend per fault."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from types import ModuleType
from typing import Any

GL_PACKAGES = "libegl1 libegl-mesa0 libgl1 libgles2 libosmesa6"


class SimulationUnavailableError(RuntimeError):
    """A part that the simulation needs (MuJoCo, assets, OpenGL) is not installed."""


def load_mujoco() -> ModuleType:
    """Import MuJoCo with an off-screen backend chosen.

    `MUJOCO_GL` is read by MuJoCo at its first import, so it is set here, before that import,
    to `egl`, or to `osmesa` where no EGL library loads. A value that the user set is kept. Where
    another package has imported MuJoCo before, such as a plug-in of LeRobot, MuJoCo has chosen
    GLFW, which needs a screen: it gets ours instead.

    Raises:
        SimulationUnavailableError: MuJoCo is not installed, or refuses `MUJOCO_GL`.
    """
    late = "MUJOCO_GL" not in os.environ and "mujoco" in sys.modules
    if "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = "egl" if _loads("libEGL.so.1") else "osmesa"
    try:
        mujoco = importlib.import_module("mujoco")
        if late:
            ours = importlib.import_module(f"mujoco.{os.environ['MUJOCO_GL']}").GLContext
            # Where its Renderer looks for a context, each time that it makes one.
            chosen = importlib.import_module("mujoco.rendering.classic.gl_context")
            setattr(chosen, "GLContext", ours)  # noqa: B010  (MuJoCo has no types)
        return mujoco
    except ImportError as error:
        raise SimulationUnavailableError(
            f"MuJoCo does not import ({error}). Mend: pip install mujoco==3.8.1"
        ) from error
    except RuntimeError as error:  # MuJoCo's answer to an unknown MUJOCO_GL
        raise SimulationUnavailableError(
            f"MuJoCo refuses MUJOCO_GL={os.environ['MUJOCO_GL']!r} ({error}). Mend: unset MUJOCO_GL"
        ) from error


def make_renderer(model: object, height: int, width: int) -> Any:
    """Return a `mujoco.Renderer`.

    Raises:
        SimulationUnavailableError: no off-screen OpenGL context can be created.
    """
    try:
        return load_mujoco().Renderer(model, height=height, width=width)
    except Exception as error:  # the OpenGL bindings raise many types, AttributeError among them
        backend = os.environ.get("MUJOCO_GL", "")
        raise SimulationUnavailableError(
            f"no off-screen OpenGL for the cameras (MUJOCO_GL={backend}: {error}). "
            f"Mend: apt-get install -y --no-install-recommends {GL_PACKAGES}"
        ) from error


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
