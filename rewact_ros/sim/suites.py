"""Task suites of other packages, which an extra brings."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from rewact_ros.mujoco_backend import load_mujoco
from rewact_ros.sim.task import TaskError

EXTRA = "suites"


def import_suite(module: str, requirement: str, alone: bool = False) -> ModuleType:
    """Import a module of a suite, with an off-screen OpenGL chosen before.

    Args:
        module: full name.
        requirement: the package's name and version.
        alone: it goes without what it depends on, and so beside the extra.

    Raises:
        TaskError: not installed, or it does not import; names the extra.
        SimulationUnavailableError: MuJoCo is missing.
    """
    load_mujoco()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        other = f"--no-deps {requirement}" if alone else f"'rewact_ros[{EXTRA}]'"
        raise TaskError(
            f"{requirement} does not import ({error}). Mend: make suites, and run "
            f".venv-suites/bin/rewact; or pip install {other}"
        ) from error


def suite_file(suite: ModuleType, name: str, requirement: str) -> Path:
    """A file that a suite's package brings, by its path in the package; nothing is fetched.

    Raises:
        TaskError: the package lies here without it.
    """
    path = Path(str(suite.__file__)).parent / name
    if not path.is_file():
        raise TaskError(
            f"{requirement}: its wheel brings {name}, which is not in {path.parent}; nothing is "
            f"fetched here. Mend: pip install --force-reinstall --no-deps {requirement}"
        )
    return path
