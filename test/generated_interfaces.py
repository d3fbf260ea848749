"""Interfaces of packages that no registry has, generated for the tests as ours are."""

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CMAKE = """
cmake_minimum_required(VERSION 3.20)
project({name})
{prelude}
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
foreach(package IN ITEMS {needs})
  find_package(${{package}} REQUIRED)
endforeach()
file(GLOB interfaces RELATIVE ${{CMAKE_CURRENT_SOURCE_DIR}} msg/*.msg srv/*.srv action/*.action)
rosidl_generate_interfaces({name} ${{interfaces}} DEPENDENCIES {needs})
set_property(TARGET {name}__rosidl_generator_py PROPERTY INTERFACE_INCLUDE_DIRECTORIES "")
ament_package()
"""
MANIFEST = """<?xml version="1.0"?>
<package format="3"><name>{name}</name><version>0.0.0</version><description>tests</description>
<maintainer email="tests@example.org">tests</maintainer><license>Apache-2.0</license>
<buildtool_depend>ament_cmake</buildtool_depend>
<buildtool_depend>rosidl_default_generators</buildtool_depend>{depends}
<exec_depend>rosidl_default_runtime</exec_depend>
<member_of_group>rosidl_interface_packages</member_of_group></package>
"""


def generate(name: str, needs: tuple[str, ...]) -> None:
    """Build the interfaces below `test/interfaces/NAME` and make them importable in this process.

    What was built is kept for the next session: it takes half a minute and is always the same.
    """
    files = sorted((HERE / "interfaces" / name).rglob("*.*"))
    text = b"".join(file.read_bytes() for file in (Path(__file__), *files)) + sys.prefix.encode()
    digest = hashlib.sha256(text).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"rewact_ros_test_interfaces_{os.getuid()}", digest)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    with (folder.parent / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _build(name, needs, folder)
            (folder / "done").touch()
    (package,) = folder.glob(f"installed/lib/python3*/*-packages/{name}")
    if str(package.parent) not in sys.path:
        sys.path.append(str(package.parent))
    # The middleware asks for the type support by its file's name, which is then in the process.
    for library in sorted((folder / "installed" / "lib").glob("*.so")):
        ctypes.CDLL(str(library))


def _build(name: str, needs: tuple[str, ...], folder: Path) -> None:
    source, build, prefix = folder / "source", str(folder / "build"), folder / "installed"
    shutil.copytree(HERE / "interfaces" / name, source)
    text = (HERE.parent / "CMakeLists.txt").read_text()
    begin, end = text.index("function(drop_missing"), text.index("find_package(ament_cmake ")
    (source / "CMakeLists.txt").write_text(
        CMAKE.format(name=name, prelude=text[begin:end], needs=" ".join(needs))
    )
    depends = "".join(f"<depend>{each}</depend>" for each in needs)
    (source / "package.xml").write_text(MANIFEST.format(name=name, depends=depends))
    env = dict(os.environ)
    for variable in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
        env[variable] = os.pathsep.join(filter(None, (sys.prefix, env.get(variable))))
    env["PATH"] = f"{sys.prefix}/bin{os.pathsep}{env['PATH']}"
    configure = [
        f"-DCMAKE_INSTALL_PREFIX={prefix}",
        f"-DPython3_EXECUTABLE={sys.executable}",
        f"-DCMAKE_INSTALL_RPATH={prefix / 'lib'}",
        "-DCMAKE_CXX_FLAGS=-O0",
        "-GNinja",
    ]
    for arguments in (
        ["-S", str(source), "-B", build, *configure],
        ["--build", build],
        ["--install", build],
    ):
        result = subprocess.run(["cmake", *arguments], env=env, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
