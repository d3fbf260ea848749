"""Change many files of a folder in one step: at any moment there is the old or the new folder."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rewact_ros.files import LockedError, exchange, locked_folder, sync


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give a copy of `folder` to change, which takes its place when the block ends.

    The copy lies beside the folder and shares its files by hard links, so that videos cost
    nothing: whoever changes a file must write a new one and rename it over the old name. An error
    in the block, or a full disk, leaves the folder as it was; what a crash leaves behind is
    removed at the next call or by `recover_folder`.

    Raises:
        OSError: not writable, another process is at it, or the file system refuses.
    """
    folder = folder.resolve()
    recover_folder(folder)
    _require_writable(folder)
    copy = folder.with_name(f".{folder.name}.new")
    with _locked(folder):
        _remove(copy)  # of a run that was killed: a running one would hold the lock
        try:
            shutil.copytree(folder, copy, symlinks=True, copy_function=_link)
            _keep_owners(folder, copy)
            yield copy
            _sync(copy)
            with _locked(copy):  # which is the folder from the exchange on, until all is tidy
                _exchange(folder, copy)
                _remove(copy)  # the old folder
        finally:
            _remove(copy)


def recover_folder(folder: Path) -> None:
    """Put a folder back that a crash left aside under its other name.

    Only file systems that cannot exchange two folders in one step ever leave one there.
    """
    folder = folder.resolve()
    old = _old_of(folder)
    if not old.is_dir():
        return
    with _locked(old):  # held by whoever is between the two steps right now
        if folder.exists():
            _remove(old)
        else:
            old.rename(folder)


def _old_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _require_writable(folder: Path) -> None:
    """Refuse what is meant to be left alone, also where the user is root and could write."""
    for path in (folder.parent, folder, *(p for p in folder.rglob("*") if p.is_dir())):
        if not os.access(path, os.W_OK) or not path.stat().st_mode & 0o222:
            raise PermissionError(errno.EACCES, "is not writable", str(path))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with locked_folder(folder):
            yield
    except LockedError:
        raise OSError(errno.EBUSY, "is being changed by another process", str(folder)) from None


def _keep_owners(folder: Path, copy: Path) -> None:
    """Leave the folders to whoever owned them, where root (a container) does the change."""
    if os.geteuid() == 0:
        for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            stat = path.stat()
            os.chown(copy / path.relative_to(folder), stat.st_uid, stat.st_gid)


def _link(source: str, target: str) -> None:
    """Share a file where the file system allows, else copy it."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _sync(copy: Path) -> None:
    """Make the new files and every folder's entries durable before anything is exchanged."""
    paths = (path for path in copy.rglob("*") if not path.is_symlink())
    sync(copy, *(path for path in paths if path.is_dir() or path.stat().st_nlink == 1))


def _exchange(folder: Path, copy: Path) -> None:
    if not exchange(folder, copy):
        # Two steps: killed between them, the folder lies beside its place until `recover_folder`.
        old = _old_of(folder)
        folder.rename(old)
        try:
            copy.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        _remove(old)
    sync(folder.parent)


def _remove(folder: Path) -> None:
    # A remainder that cannot be removed now is removed next time; the data set is whole either way.
    shutil.rmtree(folder, ignore_errors=True)
