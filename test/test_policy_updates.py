"""Which checkpoints the running policy takes: the named directory's, whole, and of this robot."""

import hashlib
import json
from dataclasses import replace

import pytest

from rewact_ros.policy.updates import Candidate, PolicyUpdates, Update, UpdateRefused

ROBOT = "c0ffee"


def checkpoint(folder, weights, robot=ROBOT):
    """A folder that looks like a checkpoint; returns it as a candidate."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "contract.json").write_text(json.dumps({"hash": robot, "signature": {}}))
    return Candidate(folder, hashlib.sha256(weights).hexdigest()[:12])


def request(candidate, stamp_ns=1, **changes):
    digest = hashlib.sha256((candidate.folder / "model.safetensors").read_bytes()).hexdigest()
    update = Update(stamp_ns, str(candidate.folder), digest, candidate.version, ROBOT)
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
    with pytest.raises(UpdateRefused, match="damaged"):
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
    with pytest.raises(UpdateRefused, match="No such file"):
        updates.judge(Update(3, rollback=True))
