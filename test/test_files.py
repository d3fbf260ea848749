"""Locks and folders at places that others can guess."""

import os
import subprocess
import sys

import pytest

from rewact_ros import files
from rewact_ros.data.bags.episode_file import EpisodeRecord, read_episode, write_episode
from rewact_ros.data.bags.lock import LOCK_FILE, BagsLock
from rewact_ros.files import (
    FileLock,
    LockedError,
    locked_folder,
    own_folder,
    place_folder,
    point,
    replace_file,
    replace_folder,
    replacing_file,
    replacing_folder,
    runtime_folder,
)
from rewact_ros.stack.robot_lock import BringUpError, RobotLock

HOLD = """
import sys
from pathlib import Path
from rewact_ros.files import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_of_one_process_until_it_ends_however_it_does(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {other.pid}"):
            FileLock(path)
        assert path.read_text() == f"process {other.pid}"  # who was refused changed nothing
        other.kill()
        other.wait()
        lock = FileLock(path)
    lock.release()
    FileLock(path).release()


@pytest.mark.parametrize("plant", [os.symlink, os.link])
@pytest.mark.parametrize("make", [FileLock, lambda path: BagsLock(path.parent)])
def test_a_planted_link_costs_its_target_nothing(tmp_path, plant, make):
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    (tmp_path / "shared").mkdir()
    plant(precious, tmp_path / "shared" / LOCK_FILE)
    with pytest.raises(OSError):
        make(tmp_path / "shared" / LOCK_FILE)
    assert precious.read_text() == "years of work"


def test_a_lock_is_no_pipe_that_one_waits_at(tmp_path):
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(OSError, match="plain file"):
        FileLock(tmp_path / "lock")


def test_locks_lie_in_a_folder_of_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = runtime_folder()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert runtime_folder() == folder
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="ours alone"):
        runtime_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="ours alone"):
        runtime_folder()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path / "rewact_ros"


def test_a_robots_lock_truncates_nothing_and_names_who_holds_it(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("ROS_DOMAIN_ID", "77")
    (tmp_path / "precious").write_text("years of work")
    for place in (tmp_path / f"rewact_ros-{os.getuid()}-77-.lock", runtime_folder() / "77-.lock"):
        place.symlink_to(tmp_path / "precious")
    with pytest.raises(BringUpError, match="cannot be locked"):
        RobotLock("")
    assert (tmp_path / "precious").read_text() == "years of work"
    lock = RobotLock("left")
    with pytest.raises(BringUpError, match=rf"'/left' \(process {os.getpid()}\): stop it"):
        RobotLock("/left/")
    RobotLock("right").release()
    lock.release()
    RobotLock("left").release()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another's folder")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(PermissionError, match="somebody else"):
        own_folder(theirs)


def test_an_episode_is_not_written_through_a_planted_link(tmp_path):
    """Whatever name is guessed for the temporary file, it is made new."""
    (tmp_path / "precious").write_text("years of work")
    for name in (f".episode.json.{os.getpid()}", ".episode.json.tmp", "episode.json"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    write_episode(tmp_path, EpisodeRecord("ep"))
    assert (tmp_path / "precious").read_text() == "years of work"
    assert read_episode(tmp_path).episode_id == "ep"


DIE = """
import os, sys
from pathlib import Path
from rewact_ros import files
calls, die_at = 0, int(sys.argv[1])
def dying(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == die_at:
            os._exit(9)
        return real(*args, **kwargs)
    setattr(os, name, call)
for name in ("fsync", "rename", "replace", "unlink", "rmdir", "symlink"):
    dying(name)
place = Path(sys.argv[2])
if sys.argv[3] == "file":
    files.replace_file(place / "a", "new")
elif sys.argv[3] == "link":
    files.point(place / "a", "new")
else:
    with files.replacing_folder(place / "a") as folder:
        (folder / "content").write_text("new")
"""


def content(place) -> str:
    """What stands at a place: a file, a link or a folder."""
    if place.is_symlink():
        return os.readlink(place)
    return (place / "content" if place.is_dir() else place).read_text()


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_killed_at_any_moment_there_is_the_old_or_the_new(tmp_path, kind):
    seen = []
    for die_at in range(1, 30):
        place = tmp_path / str(die_at)
        place.mkdir()
        if kind == "file":
            (place / "a").write_text("old")
        elif kind == "link":
            (place / "a").symlink_to("old")
        else:
            (place / "a").mkdir()
            (place / "a" / "content").write_text("old")
        done = subprocess.run([sys.executable, "-c", DIE, str(die_at), place, kind], check=False)
        seen.append(content(place / "a"))
        if done.returncode == 0:
            assert os.listdir(place) == ["a"]
            break
        assert done.returncode == 9
    else:
        pytest.fail("never ran to its end")
    assert seen == sorted(seen, reverse=True) and set(seen) == {"old", "new"}


def test_what_fails_leaves_the_old_and_nothing_beside_it(tmp_path, monkeypatch):
    file, folder = tmp_path / "file", tmp_path / "folder"
    replace_file(file, "old")
    with replacing_folder(folder) as new:
        (new / "content").write_text("old")
    with pytest.raises(ValueError), replacing_file(file) as half:
        half.write(b"ne")
        raise ValueError
    with pytest.raises(ValueError), replacing_folder(folder) as half:
        (half / "content").write_text("ne")
        raise ValueError

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(file, "new")
    with pytest.raises(OSError, match="No space"), replacing_folder(folder) as new:
        (new / "content").write_text("new")
    assert content(file) == content(folder) == "old"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_folder_prepared_where_a_file_or_link_goes_is_refused(tmp_path):
    (tmp_path / "prepared").mkdir()
    for replace in (lambda place: replace_file(place, "new"), lambda place: point(place, "new")):
        with pytest.raises(IsADirectoryError):
            replace(tmp_path / "prepared")
    assert os.listdir(tmp_path) == ["prepared"]


def test_a_link_prepared_where_a_file_goes_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "file").symlink_to("precious")
    replace_file(tmp_path / "file", "new")
    assert (tmp_path / "precious").read_text() == "years of work"
    assert not (tmp_path / "file").is_symlink() and content(tmp_path / "file") == "new"


def test_a_file_has_the_mode_that_is_asked_for_less_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        replace_file(tmp_path / "shown", "")
        replace_file(tmp_path / "own", b"", mode=0o600)
        with replacing_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(old)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("shown", "own", "folder")]
    assert modes == [0o644, 0o600, 0o755]


def test_a_folder_is_placed_over_none_and_replaced_over_an_older_one(tmp_path, monkeypatch):
    place = tmp_path / "place"
    for number, in_one_step in enumerate((True, False)):
        if not in_one_step:
            monkeypatch.setattr(files, "exchange", lambda one, other: False)
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "content").write_text(f"{name} {number}")
        replace_folder(tmp_path / "first", place)
        with pytest.raises(OSError, match="not empty"):
            place_folder(tmp_path / "second", place)
        assert content(place) == f"first {number}"
        replace_folder(tmp_path / "second", place)
        assert content(place) == f"second {number}" and os.listdir(tmp_path) == ["place"]


def test_a_folders_lock_is_of_one_and_not_taken_through_a_link(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    with locked_folder(folder), pytest.raises(LockedError), locked_folder(folder):
        pass
    with pytest.raises(OSError), locked_folder(tmp_path / "link"):
        pass
    with locked_folder(folder):
        pass
