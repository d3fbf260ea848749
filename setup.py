"""Build the ROS interfaces with CMake for pip; everything else is in pyproject.toml."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import setuptools
from setuptools.command.build_ext import build_ext

from distutils.command.install_data import install_data  # isort: skip  (setuptools supplies it)

ROOT = Path(__file__).parent.resolve()


class Distribution(setuptools.Distribution):
    def has_ext_modules(self):
        return True

    # The data files are known only after the build. Editable installs ask the second name.
    def has_data_files(self):
        return True

    has_data = has_data_files


def ros_prefix():
    """Return the prefix that holds the ament build tools: an environment or a sourced ROS."""
    spec = importlib.util.find_spec("ament_package")
    if spec is None:
        sys.exit(
            "error: ament_package not found: expected the build requirements of pyproject.toml "
            "(scripts/setup, or pip without --no-build-isolation) or a sourced ROS 2 Jazzy"
        )
    return Path(spec.origin).parents[4]  # PREFIX/lib/python3.X/site-packages/ament_package/…


def cmake_install(folder):
    """Configure, build and install this tree below `folder`; return the install prefix."""
    env = dict(os.environ)
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
        env[name] = os.pathsep.join(filter(None, (str(ros_prefix()), env.get(name))))
    env["PATH"] = f"{sys.prefix}/bin{os.pathsep}{env['PATH']}"
    prefix = folder / "prefix"
    build = str(folder / "build")
    configure = [
        f"-DCMAKE_INSTALL_PREFIX={prefix}",
        f"-DPython3_EXECUTABLE={sys.executable}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_TESTING=OFF",
    ]
    if shutil.which("ninja", path=env["PATH"]):
        configure.append("-GNinja")
    for arguments in (
        ["-S", str(ROOT), "-B", build, *configure],
        ["--build", build, "--parallel", str(os.cpu_count())],
        ["--install", build],
    ):
        result = subprocess.run(["cmake", *arguments], env=env, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{result.stdout}{result.stderr}\nerror: failed: cmake {' '.join(arguments)}")
    return prefix


class BuildInterfaces(build_ext):
    """Build, and take the generated modules; the libraries are installed as data files."""

    def run(self):
        # Kept until this process ends: install_data reads from it.
        self.distribution.interfaces = tempfile.TemporaryDirectory(prefix="rewact_ros-")
        prefix = cmake_install(Path(self.distribution.interfaces.name))
        # An editable install finds rewact_ros in the source tree; the generated modules belong to
        # the environment that they were built for, so they go there and not into the tree.
        install = self.get_finalized_command("install")
        target = Path(install.install_lib if self.editable_mode else self.build_lib, "rewact_ros")
        target.mkdir(parents=True, exist_ok=True)
        (package,) = prefix.glob("lib/python3*/*-packages/rewact_ros")
        for folder in filter(Path.is_dir, map(package.joinpath, ("msg", "srv", "action"))):
            shutil.copytree(
                folder,
                target / folder.name,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        for library in package.glob("*.so"):
            shutil.copy2(library, target)

    def get_outputs(self):
        return []

    def get_output_mapping(self):
        return {}


class InstallData(install_data):
    """Install lib/*.so and share/ of the CMake build below the environment's prefix."""

    def run(self):
        prefix = Path(self.distribution.interfaces.name, "prefix")
        share = prefix / "share"
        # An editable install reads these from the source tree: a copy would grow stale.
        live = [share / "rewact_ros" / name for name in ("launch", "config", "models")]
        if not self.get_finalized_command("build_ext").editable_mode:
            live = []
        for path in [*prefix.glob("lib/*.so"), *share.rglob("*")]:
            if path.is_file() and not any(map(path.is_relative_to, live)):
                target = Path(self.install_dir, path.relative_to(prefix))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
                self.outfiles.append(str(target))


setuptools.setup(
    distclass=Distribution,
    cmdclass={"build_ext": BuildInterfaces, "install_data": InstallData},
    data_files=[],
)
