"""A place for caches and state where the user has no home: containers run under anybody's id."""

import os
import sys
import tempfile
from pathlib import Path

# Where libraries look before they look below the home; ROS_HOME gets the logs.
_PLACES = {
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "XDG_STATE_HOME": "state",
    "ROS_HOME": "ros",
}


def provide_home() -> None:
    """Point caches, state and logs at a private temporary folder where no home can hold them.

    Without this a library takes `~` for the name of a folder, or fails at its import.
    """
    home = Path(os.path.expanduser("~"))
    place = home / ".cache" if (home / ".cache").exists() else home
    if home.is_absolute() and os.access(place, os.W_OK | os.X_OK):
        return
    missing = [name for name in _PLACES if not os.environ.get(name)]
    if not missing:
        return
    folder = _private_folder()
    for name in missing:
        os.environ[name] = str(folder / _PLACES[name])
    # torch asks the password file for a name, unless the environment has one.
    os.environ.setdefault("LOGNAME", f"uid-{os.getuid()}")
    print(f"no home to write to ({home}): caches, state and logs go to {folder}", file=sys.stderr)


def cache_home() -> Path:
    """Folder that our own caches belong below."""
    provide_home()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def expand_home(word: str) -> str:
    """Write out a `~` at the start of a path, also of one behind `--option=`, as a shell does not.

    Raises:
        ValueError: nobody's home is known.
    """
    option, equals, path = word.partition("=") if word.startswith("-") else ("", "", word)
    if path != "~" and not path.startswith("~/"):
        return word
    expanded = os.path.expanduser(path)
    if expanded == path:
        raise ValueError(f"{word}: ~ is nobody's home here (HOME is not set); give the whole path")
    return option + equals + expanded


def _private_folder() -> Path:
    """The user's own below the temporary folder; another one where somebody else made that."""
    folder = Path(tempfile.gettempdir()) / f"rewact-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        own = found.st_uid == os.getuid() and not found.st_mode & 0o077
        if folder.is_symlink() or not folder.is_dir() or not own:
            folder = Path(tempfile.mkdtemp(prefix="rewact-"))
    return folder
