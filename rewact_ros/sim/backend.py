"""Loading of MuJoCo, an off-screen OpenGL backend and the ViperX assets, with a mend per fault."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType

GL_PACKAGES = "libegl1 libegl-mesa0 libgl1 libgles2 libosmesa6"


class SimulationUnavailableError(RuntimeError):
    """A part that the simulation needs (MuJoCo, assets, OpenGL) is not installed."""


def load_mujoco() -> ModuleType:
    """Import MuJoCo with an off-screen backend chosen.

    `MUJOCO_GL` is read by MuJoCo at its first import, so it is set here, before that import,
    to `egl`, or to `osmesa` where no EGL library loads. A value that the user set is kept.

    Raises:
        SimulationUnavailableError: MuJoCo is not installed, or refuses `MUJOCO_GL`.
    """
    if "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = "egl" if _loads("libEGL.so.1") else "osmesa"
    try:
        return importlib.import_module("mujoco")
    except ImportError as error:
        raise SimulationUnavailableError(
            f"MuJoCo does not import ({error}). Mend: pip install mujoco==3.8.1"
        ) from error
    except RuntimeError as error:  # MuJoCo's answer to an unknown MUJOCO_GL
        raise SimulationUnavailableError(
            f"MuJoCo refuses MUJOCO_GL={os.environ['MUJOCO_GL']!r} ({error}). Mend: unset MUJOCO_GL"
        ) from error


def make_renderer(model: object, height: int, width: int) -> object:
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


def asset_dir() -> Path:
    """Return the folder of the gym-aloha wheel that holds the ViperX-300s MJCF and meshes.

    Raises:
        SimulationUnavailableError: gym-aloha is not installed or lacks the files.
    """
    # find_spec does not run gym_aloha's __init__, which would need dm_control.
    spec = importlib.util.find_spec("gym_aloha")
    mend = "Mend: pip install --no-deps gym-aloha==0.1.5"
    if spec is None or spec.origin is None:
        raise SimulationUnavailableError(f"gym-aloha (ViperX-300s model) is not installed. {mend}")
    folder = Path(spec.origin).parent / "assets"
    for name in ("vx300s_left.xml", "vx300s_dependencies.xml"):
        if not (folder / name).is_file():
            raise SimulationUnavailableError(f"gym-aloha lacks {folder / name}. {mend}")
    return folder


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
