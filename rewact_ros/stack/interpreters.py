"""What the interpreters of a bring-up can import, asked before anything starts."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from rewact_ros.stack.bringup import Process
from rewact_ros.stack.robot_lock import BringUpError

PROBE_TIMEOUT_S = 60.0
PYTHON = (3, 12)
EXAMPLE = "such as .venv/bin/python, which scripts/setup makes"
# Runs in the interpreter in question, which may be of any age. Large libraries are looked for, not
# imported: that would take longer than the bring-up.
PROBE = """
import hashlib, importlib.util, json, os, sys

def missing(name):
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        return True

def interfaces(package):
    for kind in ("msg", "srv", "action"):
        try:
            module = importlib.import_module(package + "." + kind)
        except ImportError:
            continue
        for name, made in sorted(vars(module).items()):
            for part in ("", "Goal", "Result", "Feedback", "Request", "Response"):
                body = getattr(made, part, None) if part else made
                fields = getattr(body, "_fields_and_field_types", None)
                if fields is not None:
                    yield kind + "/" + name + part, sorted(fields.items())

answer = {"version": list(sys.version_info[:3]), "missing": []}
answer["missing"] = [name for name in json.loads(sys.argv[1]) if missing(name)]
if not missing("rewact_ros") and sys.version_info >= (3, 12):
    import importlib
    import rewact_ros

    folder = os.path.dirname(os.path.abspath(rewact_ros.__file__))
    answer["folder"], answer["package"], files = folder, rewact_ros.__version__, {}
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {"__pycache__"})
        if at == folder:  # generated code is compared by what it describes
            folders[:] = [name for name in folders if name not in ("msg", "srv", "action")]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(at, name)
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()[:16]
                files[os.path.relpath(path, folder)] = digest
    for name, fields in interfaces("rewact_ros"):
        files[name] = hashlib.sha256(repr(fields).encode()).hexdigest()[:16]
    answer["files"] = files
print("\\n" + json.dumps(answer))
"""


@dataclass(frozen=True)
class Interpreter:
    """What one interpreter said.

    Attributes:
        python: its path.
        version: of Python.
        missing: of the modules that were asked for.
        folder: where it imports `rewact_ros` from; empty: nowhere.
        package: version of that.
        files: file or interface of it -> digest.
    """

    python: str
    version: tuple[int, ...]
    missing: frozenset[str]
    folder: str = ""
    package: str = ""
    files: dict[str, str] | None = None


def check_interpreters(processes: list[Process]) -> list[str]:
    """Make sure that every process can be started, and from one version of this package.

    Returns:
        One line for the log per interpreter.

    Raises:
        BringUpError: an interpreter does not run or lacks a module that its nodes need, or two of
            them import different versions of `rewact_ros`.
    """
    groups: dict[str, list[Process]] = {}
    for process in processes:
        groups.setdefault(process.python, []).append(process)
    asked = {python: _ask(python, group) for python, group in groups.items()}
    lines = []
    for python, group in groups.items():
        answer = asked[python]
        _check(answer, group)
        names = ", ".join(process.name for process in group)
        version = ".".join(map(str, answer.version))
        lines.append(
            f"{names}: rewact_ros {answer.package} from {answer.folder} on {python} ({version})"
        )
    _check_same(list(asked.values()))
    return lines


def _ask(python: str, group: list[Process]) -> Interpreter:
    """Ask an interpreter, in the environment that its processes will have."""
    what = "ml_python" if group[0].own_python else "python"
    if shutil.which(python) is None:
        exists = "is not executable" if os.path.exists(python) else "does not exist"
        raise BringUpError(f"{what}: {python} {exists}; expected an interpreter {EXAMPLE}")
    needs = sorted({name for process in group for name in process.needs})
    environment = {**os.environ, **group[0].environment}
    try:
        result = subprocess.run(
            [python, "-c", PROBE, json.dumps(needs)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
        )
        answer = json.loads(result.stdout.strip().splitlines()[-1])
        return Interpreter(
            python,
            tuple(answer["version"]),
            frozenset(answer["missing"]),
            answer.get("folder", ""),
            answer.get("package", ""),
            answer.get("files"),
        )
    except subprocess.TimeoutExpired:
        raise BringUpError(
            f"{what}: {python} did not answer within {PROBE_TIMEOUT_S:g} s"
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        said = str(error)
        if not isinstance(error, OSError):
            said = next(reversed(result.stderr.strip().splitlines()), "it said nothing")
        raise BringUpError(f"{what}: {python} does not run as Python: {said}") from None


def _check(answer: Interpreter, group: list[Process]) -> None:
    what = "ml_python: " if group[0].own_python else ""
    if answer.version < PYTHON:
        raise BringUpError(
            f"{what}{answer.python}: expected Python {'.'.join(map(str, PYTHON))} or newer, got "
            f"{'.'.join(map(str, answer.version))}"
        )
    for process in group:
        lacking = [name for name in process.needs if name in answer.missing]
        if not lacking:
            continue
        text = f"{what}{process.name} needs {', '.join(lacking)}, which {answer.python} lacks"
        if set(lacking) & {"rclpy", "rewact_ros", "rewact_ros.msg"}:
            mend = "source ROS 2 and this package's install/setup.bash, or run scripts/setup"
        elif process.own_python or not process.heavy:
            mend = f"install {'it' if len(lacking) == 1 else 'them'} there, as scripts/setup does"
        else:
            mend = f"set ml_python to an interpreter that has it, {EXAMPLE}"
        raise BringUpError(f"{text}: {mend}")


def _check_same(answers: Iterable[Interpreter]) -> None:
    """One version of the package, wherever it is installed: nodes of two would not agree."""
    first, *others = answers
    for other in others:
        ours, theirs = first.files or {}, other.files or {}
        names = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BringUpError(
                f"two versions of rewact_ros in one bring-up: {first.python} imports "
                f"{first.package} from {first.folder}, {other.python} {other.package} from "
                f"{other.folder}; {names[0]}{more} differ. Build both from one source tree "
                "(colcon build, scripts/setup)"
            )
