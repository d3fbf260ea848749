"""LeRobot's plug-ins: found, configured by a file, made, connected and left.

A plug-in is code that the user has installed. Imported are LeRobot's own modules and what LeRobot's
own discovery imports: installed distributions whose name begins with `lerobot_robot_`,
`lerobot_teleoperator_` and the like. A file chooses among what these have registered; no name in a
file or a parameter leads to an import.

LeRobot brings PyTorch, so it is imported by these functions and not with this module.
"""

import dataclasses
import difflib
import importlib
import os
import pkgutil
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml
from rewact_ros.text import reason

# Key of a device's file that is ours; all others are fields of LeRobot's configuration.
NUMBERS = "numbers"


class PluginError(ValueError):
    """A plug-in cannot be used as it was asked; the message says what to change."""


@dataclass(frozen=True)
class Kind:
    """A kind of device as LeRobot knows it.

    Attributes:
        word: of LeRobot's own commands, `--robot.type=…`.
        package: whose modules register its built-in types.
        config: registry of its types in that package.
        make: (module, function) that makes a device of a configuration.
    """

    word: str
    package: str
    config: str
    make: tuple[str, str]


ROBOT = Kind("robot", "lerobot.robots", "RobotConfig", ("lerobot.robots", "make_robot_from_config"))
TELEOP = Kind(
    "teleop",
    "lerobot.teleoperators",
    "TeleoperatorConfig",
    ("lerobot.teleoperators", "make_teleoperator_from_config"),
)


@dataclass(frozen=True)
class DeviceFile:
    """What the user says of a device.

    Attributes:
        source: for error texts.
        settings: fields of LeRobot's configuration, `type` among them.
        numbers: joint of the plug-in → (scale, offset): number on the topic = scale · LeRobot's +
            offset.
    """

    source: str
    settings: dict[str, Any]
    numbers: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """Name in LeRobot's registry."""
        return str(self.settings["type"])


def read_device(kind: Kind, path: str, type_: str = "") -> DeviceFile:
    """Read a device's file; `type_` goes before its `type`, and is enough where no field is needed.

    Raises:
        PluginError: it cannot be read, is no mapping, or nothing says the type.
    """
    about = f"{kind.word}_config {path}" if path else f"{kind.word}_type"
    data: Any = {}
    if path:
        try:
            data = strict_yaml.load(Path(path).expanduser())
        except (OSError, strict_yaml.YamlError) as error:
            raise PluginError(f"{kind.word}_config {reason(error)}") from None
    if not isinstance(data, dict):
        raise PluginError(f"{about}: expected fields of LeRobot's configuration, 'type: NAME' …")
    given = {key: value for key, value in data.items() if key != NUMBERS}
    if type_:
        given["type"] = type_
    if not isinstance(given.get("type"), str) or not given["type"]:
        raise PluginError(
            f"{about}: type: missing; write 'type: NAME' into the file, or give the parameter "
            f"{kind.word}_type, such as {_EXAMPLES[kind.word]}"
        )
    return DeviceFile(about, given, _numbers(about, data.get(NUMBERS)))


_EXAMPLES = {"robot": "koch_follower", "teleop": "koch_leader"}


def _numbers(about: str, data: Any) -> dict[str, tuple[float, float]]:
    """The file's own conversions. Raises PluginError."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise PluginError(f"{about}: {NUMBERS}: expected JOINT: {{scale: …, offset: …}}")
    made = {}
    for joint, value in data.items():
        where = f"{about}: {NUMBERS}.{joint}"
        keys: dict[str, Any] = value if isinstance(value, dict) else {"": None}
        wrong = set(keys) - {"scale", "offset"}
        if wrong or not all(_is_number(v) for v in keys.values()) or keys.get("scale") == 0:
            raise PluginError(
                f"{where}: expected {{scale: …, offset: …}} with numbers, scale not 0: number on "
                f"the topic = scale · LeRobot's + offset; got {value!r:.80}"
            )
        made[joint] = float(keys.get("scale", 1.0)), float(keys.get("offset", 0.0))
    return made


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def register(kind: Kind) -> Any:
    """Let LeRobot's types of a kind and the installed plug-ins register; returns the registry.

    Raises:
        PluginError: LeRobot is not installed.
    """
    try:
        from lerobot.utils.import_utils import register_third_party_plugins

        folders = {
            package: importlib.import_module(package).__path__
            for package in (kind.package, "lerobot.cameras")
        }
    except ImportError as error:
        raise PluginError(
            f"LeRobot cannot be imported ({error}); use the environment of scripts/setup, or "
            "pip install 'lerobot==0.6.1' into this one"
        ) from None
    for package, folder in folders.items():
        for module in pkgutil.iter_modules(folder):
            # One that lacks its own vendor's library registers nothing, and others do.
            with suppress(ImportError):
                if module.ispkg:
                    importlib.import_module(f"{package}.{module.name}")
    register_third_party_plugins()
    return getattr(importlib.import_module(kind.package), kind.config)


def make_device(kind: Kind, file: DeviceFile) -> Any:
    """The plug-in of a file, not connected.

    Raises:
        PluginError: no such type, a field is unknown, missing or of another type, or the plug-in
            lacks a package.
    """
    registry = register(kind)
    config = _decode(registry, file)
    module, function = kind.make
    try:
        return getattr(importlib.import_module(module), function)(config)
    except Exception as error:
        raise PluginError(f"{file.source}: {file.type}: {_words(error)}") from None


def _decode(registry: Any, file: DeviceFile) -> Any:
    """LeRobot's configuration of a file's fields, by LeRobot's own reader. Raises PluginError."""
    import draccus
    from draccus.utils import DraccusException

    types = registry.get_known_choices()
    if file.type not in types:
        raise PluginError(
            f"{file.source}: type: LeRobot knows no {file.type!r}{_near(file.type, types)}; it "
            f"has: {', '.join(sorted(types))}. A plug-in is an installed package whose name begins "
            "with lerobot_robot_ or lerobot_teleoperator_"
        )
    _check_fields(types[file.type], file)
    try:
        return draccus.decode(registry, file.settings)
    except DraccusException as error:
        where = ".".join(map(str, getattr(error, "key_path", ())))
        text = getattr(error, "message", "") or _words(error.__cause__ or error)
        at = f"{where}: " if where else ""
        raise PluginError(f"{file.source}: {at}{' '.join(text.split())}{_cameras(text)}") from None


def _check_fields(config: Any, file: DeviceFile) -> None:
    """All unknown and all missing fields at once; LeRobot's reader names one."""
    known = {f.name: f for f in dataclasses.fields(config) if f.init}
    faults = [
        f"{key}: {file.type} has no such field{_near(key, known)}; it has: {', '.join(known)}"
        for key in file.settings
        if key not in known and key != "type"
    ]
    nothing = dataclasses.MISSING
    faults += [
        f"{name}: missing; {file.type} needs it"
        for name, f in known.items()
        if name not in file.settings and f.default is nothing and f.default_factory is nothing
    ]
    if faults:
        raise PluginError("\n".join(f"{file.source}: {fault}" for fault in faults))


def _cameras(text: str) -> str:
    """The types of cameras, where one was misspelt."""
    if "choice class" not in text or "CameraConfig" not in text:
        return ""
    from lerobot.cameras import CameraConfig

    return f"; LeRobot has the cameras {', '.join(sorted(CameraConfig.get_known_choices()))}"


def _near(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, words, 3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _words(error: BaseException) -> str:
    """What an exception says, in one line, or at least its kind."""
    return " ".join(reason(error).split()) or type(error).__name__


def connect_device(kind: Kind, file: DeviceFile, device: Any) -> None:
    """Connect a plug-in, which must be calibrated: calibration asks questions on a terminal.

    Raises:
        PluginError: it does not connect, or is not calibrated.
    """
    # A plug-in that asks all the same gets no answer, instead of waiting for one without end.
    sys.stdin = open(os.devnull)  # noqa: SIM115
    try:
        device.connect(calibrate=False)
        calibrated = device.is_calibrated
    except Exception as error:
        hint = "; a plug-in that asks on the terminal cannot run as a node"
        raise PluginError(
            f"{file.source}: {file.type} does not connect: {_words(error)}"
            f"{hint if isinstance(error, EOFError) else ''}"
        ) from None
    if not calibrated:
        raise PluginError(
            f"{file.source}: {file.type} is not calibrated, or its motors hold another calibration "
            f"than {getattr(device, 'calibration_fpath', 'its file')}; run\n"
            f"    {calibrate_command(kind, file)}"
        )


def calibrate_command(kind: Kind, file: DeviceFile) -> str:
    """LeRobot's command that calibrates a file's device."""
    plain = {k: v for k, v in file.settings.items() if isinstance(v, str | int | float)}
    ordered = {"type": file.type, **plain}
    words = [f"--{kind.word}.{key}={value}" for key, value in ordered.items()]
    return shlex.join(["lerobot-calibrate", *words])
