"""An adapted copy of a LeRobotDataset: version, joint names, what the state and the action are.

The source is only read. The copy appears whole or not at all, and `meta/adapted.json` says how it
was made.
"""

import difflib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.compute_stats import aggregate_stats, get_feature_stats
from numpy.typing import NDArray

from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY
from rewact_ros.data.labels.tables import column_numbers, rewrite_frames, rewrite_table, set_column
from rewact_ros.files import place_folder, replace_file

from .files import check_dataset, tables
from .info import DatasetError, read_info, read_json

FloatArray = NDArray[np.float64]
ACTIONS = ("keep", "integrate", "next_state")
NOTE = "meta/adapted.json"
_CONTRACT = "meta/contract.json"


@dataclass(frozen=True)
class Adaptation:
    """What is to be changed, in this order.

    Attributes:
        rename: (name, new name) of numbers in state and action; what follows goes by the new ones.
        into_state: numbers of the action that nothing observes: the state gets their last command.
        action: `keep`; `integrate`: velocities become the positions that they lead to in a frame;
            `next_state`: the action becomes what was observed a frame later.
        keep: numbers of the action that `action` leaves as they are.
    """

    rename: tuple[tuple[str, str], ...] = ()
    into_state: tuple[str, ...] = ()
    action: str = "keep"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise DatasetError(f"action: expected one of {', '.join(ACTIONS)}, got {self.action!r}")
        if self.keep and self.action == "keep":
            raise DatasetError("keep: the whole action stays as it is; leave it out")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be changed."""
        return self == Adaptation()


@dataclass
class _Numbers:
    """State (N, S) and action (N, A) of whole episodes in one file, with their names."""

    state: FloatArray
    action: FloatArray
    state_names: list[str]
    action_names: list[str]


def adapt_dataset(source: Path, out: Path, wanted: Adaptation) -> list[str]:
    """Write an adapted copy; returns what was done, a sentence each.

    Args:
        source: folder of a LeRobotDataset v3, or v2.1, which LeRobot's converter brings to v3.
        out: must not exist.
        wanted: what to change.

    Raises:
        DatasetError: no dataset, nothing to do, names that it does not have, numbers that cannot
            be made, or `out` exists; nothing was written.
        OSError: not writable, or the disk is full; nothing was left.
    """
    source, done = source.resolve(), []
    with _whole(out, source) as partial:
        version = read_json(source / "meta" / "info.json", source).get("codebase_version")
        if version in ("v2.1", "2.1"):
            _convert(source, partial)
            done.append(f"converted {version} to v3.0 by LeRobot's converter")
        else:
            check_dataset(source)
            if wanted.is_empty:
                raise DatasetError(f"{source}: is of v3.0 already, and nothing else was asked for")
            shutil.copytree(source, partial, symlinks=False)
        if not wanted.is_empty:
            done += _change(partial, wanted)
        check_dataset(partial)
        note = json.dumps({"source": source.name, "done": done}, indent=4, ensure_ascii=False)
        replace_file(partial / NOTE, note + "\n")
    return done


@contextmanager
def _whole(out: Path, source: Path) -> Iterator[Path]:
    """Give `.<out>.partial` to make; it becomes `out` at the end, or nothing on an error."""
    out = out.absolute()
    if not (source / "meta" / "info.json").is_file():
        read_info(source)  # says what is there instead
    if source == out.resolve() or source in out.resolve().parents:
        raise DatasetError(f"{out}: expected a folder outside {source}, which is only read")
    partial = out.with_name(f".{out.name}.partial")
    for folder in (out, partial):
        if folder.exists() or folder.is_symlink():
            raise DatasetError(f"{folder} exists: choose another folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        place_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert(source: Path, partial: Path) -> None:
    """LeRobot's converter works in place, so it gets a copy."""
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    work = partial.with_name(partial.name + ".convert")
    shutil.rmtree(work, ignore_errors=True)
    try:
        shutil.copytree(source, work / "data")
        try:
            convert_dataset("local/data", root=work / "data", push_to_hub=False)
        except OSError as error:
            if error.errno is not None:
                raise
            raise DatasetError(f"{source}: LeRobot does not convert it: {error}") from error
        except Exception as error:  # the converter raises several families
            text = " ".join(str(error).split())[:300]
            raise DatasetError(
                f"{source}: LeRobot's converter stopped: {type(error).__name__}: {text}; is the "
                "dataset whole?"
            ) from error
        (work / "data").rename(partial)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _change(root: Path, wanted: Adaptation) -> list[str]:
    info = read_info(root)
    for key in (STATE_KEY, ACTION_KEY):
        if key not in info["features"] or len(info["features"][key]["shape"]) != 1:
            raise DatasetError(f"{root.name}: {key}: expected a row of numbers, got none")
    state_names, action_names = _renamed(
        wanted.rename, _names(info, STATE_KEY), _names(info, ACTION_KEY)
    )
    stats: dict[str, dict[int, dict[str, NDArray[Any]]]] = {STATE_KEY: {}, ACTION_KEY: {}}
    made = _Numbers(np.empty(0), np.empty(0), state_names, action_names)
    for path in tables(root, "data"):
        table = pq.read_table(path)
        episode = column_numbers(table, "episode_index")
        state, action = (_matrix(table, key, info) for key in (STATE_KEY, ACTION_KEY))
        made = _adapted(
            _Numbers(state, action, state_names, action_names), episode, info["fps"], wanted
        )
        for key, values in ((STATE_KEY, made.state), (ACTION_KEY, made.action)):
            exact = values.astype(np.float32)
            table = set_column(table, key, _column(table, key, exact))
            for index in np.unique(episode):
                if int(index) in stats[key]:
                    raise DatasetError(
                        f"{root.name}: episode {index} lies in several files of data; write the "
                        "dataset anew with LeRobot, which keeps an episode in one file"
                    )
                own = get_feature_stats(exact[episode == index], axis=0, keepdims=False)
                stats[key][int(index)] = own
        rewrite_frames(path, table)
    _rewrite_statistics(root, stats)
    for key, names in ((STATE_KEY, made.state_names), (ACTION_KEY, made.action_names)):
        info["features"][key] |= {"dtype": "float32", "shape": [len(names)], "names": names}
    replace_file(root / "meta" / "info.json", json.dumps(info, indent=4, ensure_ascii=False))
    return [*_told(wanted), *_without_contract(root)]


def _adapted(numbers: _Numbers, episode: NDArray[Any], fps: float, wanted: Adaptation) -> _Numbers:
    first = np.flatnonzero(np.diff(episode, prepend=episode[0] - 1))
    last = np.append(first[1:], len(episode)) - 1
    state, names = numbers.state, list(numbers.state_names)
    for name in wanted.into_state:
        column = numbers.action[:, _find(name, numbers.action_names, ACTION_KEY)]
        if name in names:
            raise DatasetError(f"into-state: {name} is in {STATE_KEY} already; leave it out")
        before = np.concatenate([column[:1], column[:-1]])
        before[first] = column[first]
        state, names = np.column_stack([state, before]), [*names, name]
    action = numbers.action.copy()
    for name in wanted.keep:
        _find(name, numbers.action_names, ACTION_KEY)
    for index, name in enumerate(numbers.action_names):
        if wanted.action == "keep" or name in wanted.keep:
            continue
        if name not in names:
            raise DatasetError(
                f"action {wanted.action}: {name}: expected it in {STATE_KEY} too, which has "
                f"{', '.join(names)}; give --keep {name}, or --rename to have one name in both"
            )
        seen = state[:, names.index(name)]
        if wanted.action == "integrate":
            action[:, index] = seen + numbers.action[:, index] / fps
        else:
            action[:, index] = np.append(seen[1:], seen[-1])
            action[last, index] = seen[last]
    return _Numbers(state, action, names, numbers.action_names)


def _renamed(
    pairs: Sequence[tuple[str, str]], state: list[str], action: list[str]
) -> tuple[list[str], list[str]]:
    """New names of state and action."""
    renamed = dict(pairs)
    if len(renamed) != len(pairs):
        raise DatasetError("rename: expected each name once")
    for old in renamed:
        _find(old, list(dict.fromkeys([*state, *action])), f"{STATE_KEY} and {ACTION_KEY}")
    new = tuple([renamed.get(name, name) for name in names] for names in (state, action))
    for key, names in zip((STATE_KEY, ACTION_KEY), new, strict=True):
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise DatasetError(f"rename: {key} would have {doubled[0]} twice")
    return new[0], new[1]


def _find(name: str, names: Sequence[str], where: str) -> int:
    if name in names:
        return list(names).index(name)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
    raise DatasetError(f"{where}: has no '{name}'; {hint}")


def _names(info: dict[str, Any], key: str) -> list[str]:
    names = info["features"][key].get("names")
    if isinstance(names, dict) and len(names) == 1:  # as LeRobot v2 wrote names
        names = next(iter(names.values()))
    width = info["features"][key]["shape"][0]
    if not isinstance(names, list) or len(names) != width or len(set(map(str, names))) != width:
        raise DatasetError(
            f"{key}: names: expected {width} different names in meta/info.json, got "
            f"{str(names)[:120]}; write there what each number is"
        )
    return [str(name) for name in names]


def _matrix(table: pa.Table, key: str, info: dict[str, Any]) -> FloatArray:
    width = info["features"][key]["shape"][0]
    values: FloatArray = column_numbers(table, key).astype(np.float64)
    if values.size != len(table) * width:
        raise DatasetError(f"{key}: expected {width} numbers in every row; the table is damaged")
    values = values.reshape(len(table), width)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DatasetError(
            f"{key}: not finite in episode {column_numbers(table, 'episode_index')[row]} frame "
            f"{column_numbers(table, 'frame_index')[row]}; mend the dataset, or remove the episode"
        )
    return values


def _column(table: pa.Table, key: str, values: NDArray[np.float32]) -> pa.Array:
    """(N, W) as a column of the kind that the table has."""
    if pa.types.is_fixed_size_list(table.schema.field(key).type):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.array(list(values), type=pa.list_(pa.float32()))


def _rewrite_statistics(root: Path, stats: dict[str, dict[int, dict[str, NDArray[Any]]]]) -> None:
    for path in tables(root, "meta/episodes"):
        table = pq.read_table(path)
        indices = table["episode_index"].to_pylist()
        for key, episodes in stats.items():
            for name in next(iter(episodes.values())):
                kind = pa.list_(pa.int64() if name == "count" else pa.float64())
                rows = [np.atleast_1d(episodes[index][name]).tolist() for index in indices]
                table = set_column(table, f"stats/{key}/{name}", pa.array(rows, type=kind))
        rewrite_table(path, table)
    file = root / "meta" / "stats.json"
    total = read_json(file, root) if file.is_file() else {}
    for key, episodes in stats.items():
        own = aggregate_stats([{key: each} for each in episodes.values()])[key]
        total[key] = {name: np.atleast_1d(value).tolist() for name, value in own.items()}
    replace_file(file, json.dumps(total, indent=4))


def _told(wanted: Adaptation) -> list[str]:
    told = [f"renamed {old} to {new}" for old, new in wanted.rename]
    told += [
        f"{name}: the state has its last command; in each episode's first frame its own, which is "
        "a guess"
        for name in wanted.into_state
    ]
    kept = f", but {', '.join(wanted.keep)}" if wanted.keep else ""
    if wanted.action == "integrate":
        told.append(f"action{kept}: velocities became observed position + velocity / fps")
    elif wanted.action == "next_state":
        told.append(
            f"action{kept}: became the state of the next frame; in each episode's last frame its "
            "own"
        )
    return told


def _without_contract(root: Path) -> list[str]:
    """A recorded contract does not describe the copy; its signature is that of its features."""
    if not (root / _CONTRACT).exists():
        return []
    (root / _CONTRACT).unlink()
    return [f"removed {_CONTRACT}, which describes the source"]
