"""Which checkpoints the running policy takes: the named directory's, whole, and of this robot."""

import hashlib
import json
import shutil
import time
from dataclasses import replace

import pytest

from rewact_ros.policy.checkpoint_files import open_folder
from rewact_ros.policy.preparation import MAX_TEXT, UpdatePreparation
from rewact_ros.policy.updates import Candidate, PolicyUpdates, Update, UpdateRefused

ROBOT = "c0ffee"


def checkpoint(folder, weights, robot=ROBOT):
    """A folder that looks like a checkpoint; returns it as a candidate."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "contract.json").write_text(json.dumps({"hash": robot, "signature": {}}))
    return Candidate(folder, hashlib.sha256(weights).hexdigest()[:12], open_folder(folder).sha256)


def request(candidate, stamp_ns=1, **changes):
    update = Update(stamp_ns, str(candidate.folder), candidate.sha256, candidate.version, ROBOT)
    return replace(update, **changes)


@pytest.fixture
def allowed(tmp_path):
    return tmp_path / "policies"


@pytest.fixture
def first(tmp_path):
    """What ran from the start; it need not lie in the directory."""
    return checkpoint(tmp_path / "models" / "first", b"first")


@pytest.fixture
def second(allowed):
    return checkpoint(allowed / "second", b"second")


@pytest.fixture
def updates(allowed, first):
    return PolicyUpdates(str(allowed), ROBOT, first)


def test_a_whole_checkpoint_of_this_robot_in_the_directory_is_taken(updates, second):
    assert updates.judge(request(second)) == second
    assert updates.judge(request(second, 2, path="second", version="", robot="")) == second


def test_without_a_directory_every_update_is_refused(first, second):
    with pytest.raises(UpdateRefused, match="policy_dir"):
        PolicyUpdates("", ROBOT, first).judge(request(second))


@pytest.mark.parametrize("path", ["", ".", "..", "../models/first", "/etc", "second/../../models"])
def test_a_folder_elsewhere_is_refused(updates, second, path):
    with pytest.raises(UpdateRefused, match="path"):
        updates.judge(request(second, path=path))


def test_a_link_that_leads_out_of_the_directory_is_refused(updates, allowed, first, second):
    (allowed / "link").symlink_to(first.folder)
    with pytest.raises(UpdateRefused, match="below"):
        updates.judge(request(first, path="link"))


def test_damaged_weights_are_refused(updates, second):
    update = request(second)
    (second.folder / "model.safetensors").write_bytes(b"secon")
    with pytest.raises(UpdateRefused, match="sha256.*copy the checkpoint again"):
        updates.judge(update)
    with pytest.raises(UpdateRefused, match="sha256"):
        updates.judge(request(second, 2, sha256=""))


def test_another_robots_checkpoint_is_refused_whoever_says_so(updates, allowed, second):
    with pytest.raises(UpdateRefused, match="robot.*decaf"):
        updates.judge(request(second, robot="decaf"))
    foreign = checkpoint(allowed / "foreign", b"foreign", robot="decaf")
    with pytest.raises(UpdateRefused, match=r"contract\.json.*decaf"):
        updates.judge(request(foreign, 2, robot=""))
    (foreign.folder / "contract.json").write_text("{")
    with pytest.raises(UpdateRefused, match="not valid JSON"):
        updates.judge(request(foreign, 3))


def test_an_unexpected_version_is_refused(updates, second):
    with pytest.raises(UpdateRefused, match="version"):
        updates.judge(request(second, version="0123456789ab"))


def test_an_older_request_than_the_last_is_stale(updates, second):
    updates.judge(request(second, stamp_ns=5))
    with pytest.raises(UpdateRefused, match="stale"):
        updates.judge(request(second, stamp_ns=4))


def test_what_runs_already_is_refused(updates, second):
    updates.taken(updates.judge(request(second)))
    with pytest.raises(UpdateRefused, match="runs already"):
        updates.judge(request(second, stamp_ns=2))


def test_rollback_goes_back_step_by_step_to_the_first(updates, allowed, first, second):
    third = checkpoint(allowed / "third", b"third")
    for stamp_ns, candidate in enumerate((second, third)):
        updates.taken(updates.judge(request(candidate, stamp_ns)))
    for stamp_ns, expected in ((7, second), (8, first)):
        updates.taken(updates.judge(Update(stamp_ns, rollback=True)))
        assert updates.running == expected
    with pytest.raises(UpdateRefused, match="no other checkpoint"):
        updates.judge(Update(9, rollback=True))


def test_a_rollback_to_weights_that_have_changed_since_is_refused(updates, first, second):
    updates.taken(updates.judge(request(second)))
    (first.folder / "model.safetensors").write_bytes(b"another")
    with pytest.raises(UpdateRefused, match="now they are"):
        updates.judge(Update(2, rollback=True))
    (first.folder / "model.safetensors").unlink()
    with pytest.raises(UpdateRefused, match="missing model.safetensors"):
        updates.judge(Update(3, rollback=True))


@pytest.mark.parametrize("name", ["contract.json", "policy_preprocessor.json", "README.md", "new"])
def test_a_change_of_any_file_is_refused(updates, second, name):
    (second.folder / "policy_preprocessor.json").write_text("{}")
    (second.folder / "README.md").write_text("card")
    update = request(second, sha256=open_folder(second.folder).sha256)
    with open(second.folder / name, "a") as file:
        file.write(" ")
    with pytest.raises(UpdateRefused, match="sha256.*of all its files"):
        updates.judge(update)


def test_a_file_that_is_a_link_out_of_the_folder_is_refused(updates, second, tmp_path):
    (second.folder / "policy_preprocessor.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UpdateRefused, match="a link"):
        updates.judge(request(second))


def test_a_request_of_the_future_does_not_make_all_others_stale(updates, second):
    with pytest.raises(UpdateRefused, match="ahead of this host's clock"):
        updates.judge(request(second, stamp_ns=2**62))
    now_ns = time.time_ns()
    assert updates.judge(request(second, stamp_ns=now_ns)) == second


# -- preparation -----------------------------------------------------------------------------


def settled(preparation):
    """Wait for the preparing thread; what it left."""
    preparation._thread.join(timeout=20.0)
    return preparation.text


def test_what_is_loaded_is_what_was_judged_though_the_folder_changes_meanwhile(
    updates, second, allowed, monkeypatch
):
    judge, seen = updates.judge, []

    def judge_and_change(update):
        candidate = judge(update)
        shutil.rmtree(second.folder)
        checkpoint(allowed / "second", b"evil")
        return candidate

    def load(files):
        seen.append((files.read("model.safetensors"), files.sha256))
        return None, None

    monkeypatch.setattr(updates, "judge", judge_and_change)
    preparation = UpdatePreparation(updates, load)
    preparation.request(request(second))
    assert "waits for the end of the episode" in settled(preparation)
    assert seen == [(b"second", second.sha256)]


def test_a_folder_that_changes_while_it_is_read_is_refused(updates, second, monkeypatch):
    from rewact_ros.policy import checkpoint_files

    update, read = request(second), checkpoint_files._read

    def read_late(handle, size, keep):
        (second.folder / "model.safetensors").write_bytes(b"evil!!")
        return read(handle, size, keep)

    monkeypatch.setattr(checkpoint_files, "_read", read_late)
    with pytest.raises(UpdateRefused, match="sha256"):
        updates.judge(update)


@pytest.mark.parametrize("error", [ValueError, KeyError, AssertionError, RecursionError, TypeError])
def test_whatever_a_checkpoint_makes_of_its_loading_is_a_refusal(updates, second, error):
    def load(files):
        raise error("odd\n" + "x" * 100_000)

    preparation = UpdatePreparation(updates, load)
    preparation.request(request(second))
    text = settled(preparation)
    assert ": refused: " in text and "\n" not in text and len(text) < MAX_TEXT + 200
    assert preparation.ready is None


def test_texts_of_a_stranger_are_cut_and_made_printable(updates, second):
    preparation = UpdatePreparation(updates, lambda files: (None, None))
    for stamp_ns, changes in enumerate(
        (
            {"path": "\x1b[2J" + "p" * 1_000_000, "version": ""},
            {"version": "v" * 1_000_000},
            {"sha256": "s" * 1_000_000, "version": "x"},
            {"robot": "r" * 1_000_000, "version": "x"},
        )
    ):
        preparation.request(request(second, stamp_ns, **changes))
        text = settled(preparation)
        assert ": refused: " in text and len(text) < 1500 and text.isprintable(), text[:300]


def test_a_refusal_is_forgotten_after_a_while_or_with_the_next_event(updates, second, monkeypatch):
    preparation = UpdatePreparation(updates, lambda files: (None, None))
    preparation.request(request(second, sha256=""))
    assert ": refused: " in settled(preparation)
    monkeypatch.setattr("rewact_ros.policy.preparation.REFUSED_S", 0.0)
    assert preparation.text == ""
    monkeypatch.undo()
    preparation.request(request(second, 2, sha256=""))
    assert ": refused: " in settled(preparation)
    preparation.forget_refusal()
    assert preparation.text == ""
    preparation.request(request(second, 3))
    assert "loaded, waits" in settled(preparation)
    preparation.forget_refusal()  # that is no refusal
    assert "loaded, waits" in preparation.text
