"""Locks and folders at places that others can guess."""

import os
import subprocess
import sys

import pytest

from rewact_ros.data.bags.episode_file import EpisodeRecord, read_episode, write_episode
from rewact_ros.data.bags.lock import LOCK_FILE, BagsLock
from rewact_ros.files import FileLock, LockedError, own_folder, runtime_folder
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
