"""What a LeRobotDataset says of itself in `meta/info.json`, taken only after a look.

LeRobot fetches from the Hub what it does not find, fills the templates of the file as they stand,
and looks its types up by name; so all that is checked here first.
"""

import math
import re
import shlex
import sys
from pathlib import Path
from string import Formatter
from typing import Any, TypeGuard

from rewact_ros import strict_yaml
from rewact_ros.contract.signature import image_shape, require_record_format, signature_of_dataset
from rewact_ros.formats import FormatError

VIDEO_FIELDS = ("video_key", "chunk_index", "file_index")
DATA_FIELDS = ("chunk_index", "file_index")
_KINDS = {"float": (16, 32, 64), "int": (8, 16, 32, 64), "uint": (8, 16, 32, 64)}
SCALARS = {"bool", "string", *(f"{kind}{n}" for kind, bits in _KINDS.items() for n in bits)}
PICTURES = ("image", "video")
_LANGUAGE = ("language_persistent", "language_events")
_LARGEST_BYTES = 64 << 20
_LARGEST_VALUES = 100_000_000  # of one frame's feature
_RECORDING = ("metadata.yaml", "episode.json", "*.mcap", "*.db3")
_FORMAT = re.compile(r"0?\d{0,2}d?")
_GLOB = re.compile(r"[\[\]*?]|::")


class DatasetError(ValueError):
    """A dataset, or a choice of its episodes, that cannot be used; says why and the mend."""


def read_info(root: Path) -> dict[str, Any]:
    """Read `meta/info.json` of a LeRobotDataset v3.

    Raises:
        DatasetError: no such folder, another kind of folder, another version, or a description
            that no LeRobotDataset has.
    """
    info = read_json(_info_file(root), root)
    _check_version(root, info)
    try:
        _check_numbers(info)
        _check_template(info, "data_path", DATA_FIELDS)
        _check_features(info.get("features"))
        if any(feature["dtype"] == "video" for feature in info["features"].values()):
            _check_template(info, "video_path", VIDEO_FIELDS)
    except ValueError as error:
        raise DatasetError(f"{root}: meta/info.json: {error}") from error
    return info


def read_json(file: Path, root: Path) -> dict[str, Any]:
    """Read one of a dataset's JSON objects; raises DatasetError."""
    name = file.relative_to(root)
    try:
        if (size := file.stat().st_size) > _LARGEST_BYTES:
            raise ValueError(f"expected at most {_LARGEST_BYTES >> 20} MiB, got {size >> 20}")
        # Statistics of what was never measured are NaN, and of what has no bound infinite.
        content = strict_yaml.parse_json(file.read_text("utf-8"), infinity=True, nan=True)
        if not isinstance(content, dict):
            raise ValueError(f"expected a JSON object, got {type(content).__name__}")
    except ValueError as error:
        raise DatasetError(
            f"{root}: {name}: not readable as JSON: {error}; copy it anew"
        ) from error
    except OSError as error:
        raise unreadable(root, error) from error
    return content


def recorded_signature(root: Path) -> dict[str, Any]:
    """The signature of the contract that a dataset was recorded under, else of its features.

    Raises:
        DatasetError: no dataset, or its `meta/contract.json` is none, or of another format.
        ContractError: a feature that every robot data set has is absent.
    """
    info, file = read_info(root), root / "meta" / "contract.json"
    if not file.is_file():
        return signature_of_dataset(info)
    document = read_json(file, root)
    try:
        require_record_format(document)
    except FormatError as error:
        raise DatasetError(f"{file}: {error}") from None
    signature = document.get("signature")
    features = signature.get("features") if isinstance(signature, dict) else None
    if (
        not isinstance(signature, dict)
        or not isinstance(features, dict)
        or not _is_number(signature.get("rate_hz"))
        or not all(isinstance(feature, dict) for feature in features.values())
    ):
        raise DatasetError(
            f"{file}: signature: expected rate_hz and features of a contract, got neither; copy "
            "the dataset anew"
        )
    return signature


def unreadable(root: Path, error: OSError) -> DatasetError:
    """What an operating system's refusal means for a dataset."""
    mend = "copy the dataset anew"
    if isinstance(error, PermissionError):
        mend = "give yourself the right to read it (chmod), or read it as its owner"
    return DatasetError(f"{error.filename or root}: {error.strerror or error}; {mend}")


def _info_file(root: Path) -> Path:
    """The file that makes a folder a dataset; without it, say what the folder is instead."""
    file = root / "meta" / "info.json"
    try:
        if not (file.is_file() or file.is_symlink()):
            raise DatasetError(f"{root}: no LeRobotDataset here: {_other(root)}")
    except OSError as error:
        raise unreadable(root, error) from error
    if _GLOB.search(str(root.absolute())):
        raise DatasetError(
            f"{root}: the dataset library takes [ ] * ? and :: in the name of a folder for a "
            "pattern; rename it, or give a link without them"
        )
    return file


def _other(root: Path) -> str:
    if not root.exists():
        return (
            "no such folder; nothing is fetched from the Hub (that is for `hf download NAME "
            "--repo-type dataset --local-dir FOLDER`)"
        )
    if not root.is_dir():
        return "it is a file; give the folder of a LeRobotDataset v3"
    inside = sorted(root.iterdir())
    folders = [path for path in inside if path.is_dir()]
    if _recorded(root) or any(_recorded(path) for path in folders):
        return f"it holds recordings; make one of them: rewact export {shlex.quote(str(root))}"
    if (root / "config.json").is_file() and (root / "model.safetensors").is_file():
        return "it is a checkpoint; give it as --policy"
    sets = [path.name for path in folders if (path / "meta" / "info.json").is_file()]
    if sets:
        return f"it holds {len(sets)} of them; give one, e.g. {root / sets[0]}"
    if (root.absolute().parent / "meta" / "info.json").is_file():
        return f"it is a part of one; give {root.absolute().parent}"
    if (root / "meta_data").is_dir():
        return "it is of LeRobot v1; " + _no_conversion()
    if not inside:
        return "the folder is empty; give that of a LeRobotDataset v3"
    return "meta/info.json is missing; give the folder of a LeRobotDataset v3, or copy it whole"


def _recorded(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) is not None for pattern in _RECORDING)


def _check_version(root: Path, info: dict[str, Any]) -> None:
    version = info.get("codebase_version")
    if isinstance(version, str) and re.fullmatch(r"v?3\.\d{1,3}", version):
        return
    place = f"{root}: meta/info.json: codebase_version: expected v3.0, got {version!r}"
    if isinstance(version, str) and re.fullmatch(r"v?2\.1", version):
        where = root.absolute()
        command = [sys.executable, "-m", "lerobot.scripts.convert_dataset_v21_to_v30"]
        command += [f"--repo-id=local/{where.name}", f"--root={where}", "--push-to-hub=false"]
        raise DatasetError(
            f"{place}; convert it in place (the old one stays as {where.name}_old): "
            f"{shlex.join(command)}"
        )
    if isinstance(version, str) and re.match(r"v?[12]\.", version):
        raise DatasetError(f"{place}; {_no_conversion()}")
    raise DatasetError(f"{place}; take a dataset of LeRobot 0.4 to 0.6")


def _no_conversion() -> str:
    return (
        "LeRobot 0.6 converts from v2.1 only: bring it there with the LeRobot that wrote it, or "
        "take a dataset of v3.0"
    )


def _check_numbers(info: dict[str, Any]) -> None:
    fps = info.get("fps")
    if not _is_number(fps) or not (math.isfinite(fps) and 0 < fps <= 10_000):
        raise ValueError(f"fps: expected frames per second above 0, got {fps!r}")
    for key, least in (("total_episodes", 1), ("total_frames", 1), ("total_tasks", 0)):
        value = info.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{key}: expected a whole number of at least {least}, got {value!r}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_template(info: dict[str, Any], key: str, fields: tuple[str, ...]) -> None:
    """A template names files of the dataset and nothing else, whatever fills it."""
    template = info.get(key)
    expected = f"expected a path in the dataset with {', '.join(f'{{{f}}}' for f in fields)}"
    if not isinstance(template, str):
        raise ValueError(f"{key}: {expected}, got {template!r}")
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        parts = [("", "?", "", None)]
    good = all(
        field is None or (field in fields and not convert and _FORMAT.fullmatch(spec or ""))
        for _, field, spec, convert in parts
    )
    path = Path(template)
    if not good or path.is_absolute() or ".." in path.parts or "\0" in template:
        raise ValueError(f"{key}: {expected}, got {template!r}; copy meta/info.json anew")


def _check_features(features: object) -> None:
    if not isinstance(features, dict) or not features:
        raise ValueError(f"features: expected an object of features, got {type(features).__name__}")
    for key, feature in features.items():
        if "/" in key or "\0" in key or key in ("", ".", ".."):
            raise ValueError(f"features: {key!r} is no name of a feature")
        if not isinstance(feature, dict):
            raise ValueError(f"features: {key}: expected an object, got {feature!r}")
        dtype, shape = feature.get("dtype"), feature.get("shape")
        if dtype == "language" and key in _LANGUAGE:
            continue
        if not isinstance(dtype, str) or dtype not in {*SCALARS, *PICTURES}:
            known = ", ".join(sorted(SCALARS))
            raise ValueError(
                f"{key}: dtype: expected image, video or one of {known}, got {dtype!r}"
            )
        sizes = shape if isinstance(shape, list) and 1 <= len(shape) <= 5 else []
        if not sizes or not all(type(n) is int and n > 0 for n in sizes):
            raise ValueError(f"{key}: shape: expected 1 to 5 sizes above 0, got {shape!r}")
        if math.prod(sizes) > _LARGEST_VALUES:
            raise ValueError(
                f"{key}: shape: expected at most {_LARGEST_VALUES} values, got {shape}"
            )
        if dtype in PICTURES:
            image_shape(key, feature)


def parse_episodes(text: str, total: int) -> list[int]:
    """Parse ``0:24`` or ``0,3,5:9`` (end exclusive) into episode indices.

    Raises:
        DatasetError: not of that form, or outside the dataset.
    """
    episodes: set[int] = set()
    for part in text.split(","):
        try:
            first, _, last = part.partition(":")
            episodes.update(range(int(first), int(last)) if last else [int(first)])
        except ValueError:
            raise DatasetError(
                f"episodes: expected a form like 0:24 or 0,3,5:9, got {text!r}"
            ) from None
    outside = sorted(e for e in episodes if not 0 <= e < total)
    if outside or not episodes:
        raise DatasetError(f"episodes {text}: the dataset has 0:{total}; outside it: {outside[:5]}")
    return sorted(episodes)
