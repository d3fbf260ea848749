"""A calibrated bound is withdrawn when the world changes, and stays so; nothing else does it."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from test_supervisor import CALIBRATED, CALIBRATION, HOLD, SOURCE, TICK_S, Bench

from rewact_ros.supervision.batch import Plan
from rewact_ros.supervision.calibration import CalibrationError, load_calibration
from rewact_ros.supervision.camera_check import (
    CameraReference,
    camera_faults,
    displacement,
    reference_of,
    view_of,
)
from rewact_ros.supervision.drift import (
    FALSE_WITHDRAWAL,
    WINDOW_S,
    Beginning,
    Betting,
    Drift,
    drift_reference,
    window_scores,
)
from rewact_ros.supervision.memory import EpisodeMemory, state_file
from rewact_ros.supervision.signals import Signals
from rewact_ros.supervision.supervisor import RefusedError
from rewact_ros.supervision.verdict import Change, Termination
from rewact_ros.supervision.withdrawal import OnWithdrawal
from rewact_ros.supervision.world import World

# Drift of scores --------------------------------------------------------------------------------


def episodes_until_found(rng, shift, change, episodes, calibrated=60):
    """Episode after `change` in which the test fires on scores that shift by it; 0: in none."""
    reference = drift_reference([{"novelty": v} for v in rng.normal(size=calibrated)])
    drift = Drift()
    for number in range(1, episodes + 1):
        value = rng.normal() + (shift if number > change else 0.0)
        drift = drift.add({"novelty": float(value)}, reference, rng)
        if drift.found(reference):
            return number - change
    return 0


def test_unchanged_episodes_withdraw_no_more_often_than_stated():
    rng = np.random.default_rng(1)
    false = sum(episodes_until_found(rng, 0.0, 0, 200, 40) != 0 for _ in range(60))
    # P(more than 8 of 60 | 0.05) is below 0.2 %.
    assert false <= 8


@pytest.mark.parametrize(("shift", "change"), [(2.5, 0), (-2.5, 0), (2.5, 60)])
def test_scores_that_shift_either_way_early_or_late_are_found_within_twenty_episodes(shift, change):
    rng = np.random.default_rng(2)
    found = [episodes_until_found(rng, shift, change, change + 20) for _ in range(10)]
    assert all(0 < number <= 20 for number in found)


def test_every_way_of_betting_is_fair():
    t = (np.arange(2000) + 0.5) / 2000
    near, share = 0.5 * t**12, 6 * t**11 / 2000  # most places where payments grow without bound
    paid = [np.array(Betting().bet(0.0, (), float(r)).capitals) for r in (*near, *(1 - near))]
    means = (np.array(paid) * np.tile(share, 2)[:, None]).sum(axis=0)
    assert means * len(means) == pytest.approx(1.0, abs=0.02)  # of which the very ends are cut
    assert means.sum() <= 1.001


def test_equal_scores_are_no_drift():
    rng = np.random.default_rng(3)
    reference, drift = drift_reference([{"entropy": 0.0}] * 30), Drift()
    for _ in range(60):
        drift = drift.add({"entropy": 0.0}, reference, rng)
    assert drift.found(reference) == ""


def test_the_reason_names_the_score_and_about_when_it_began():
    rng = np.random.default_rng(4)
    made = [{"novelty": n, "progress": p} for n, p in rng.normal(size=(60, 2))]
    reference, drift = drift_reference(made), Drift()
    for number in range(60):
        scores = {"novelty": float(rng.normal()), "progress": float(rng.normal())}
        scores["progress"] += 4.0 * (number >= 30)
        drift = drift.add(scores, reference, rng)
    assert drift.found(reference).startswith("scores have drifted (progress, since about episode ")
    assert 25 <= drift.bettings["progress"].least_at <= 35
    assert drift.bettings["progress"].capital > 2 / FALSE_WITHDRAWAL


def test_an_episode_is_scored_once_by_its_first_seconds_alone():
    beginning, found = Beginning(), []
    for frame in range(100):
        late = frame / 20 > WINDOW_S
        signals = Signals(stamp_s=5 + frame / 20, progress=9.0 if late else 0.25, entropy=1.0)
        found.append(beginning.add(signals))
    assert [f for f in found if f] == [{"progress": 0.25, "entropy": 1.0}]  # novelty is unknown
    assert window_scores([0.0, 1.0], {"progress": [1.0, 1.0]}) == {}
    spoilt = Beginning()
    spoilt.spoil()
    assert not any(spoilt.add(Signals(stamp_s=i / 20, progress=0.5)) for i in range(100))


# Cameras ----------------------------------------------------------------------------------------


def scene(rng, shift=(0.0, 0.0), turn_deg=0.0, light=1.0, seed=0, size=(480, 640)):
    """A room of blocks seen by a camera that may have moved, with an object somewhere and noise."""
    fixed = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width].astype(float)
    angle = np.radians(turn_deg)
    x, y = x - width / 2, y - height / 2
    u = np.cos(angle) * x + np.sin(angle) * y + width / 2 - shift[0]
    v = -np.sin(angle) * x + np.cos(angle) * y + height / 2 - shift[1]
    picture = np.full(size, 120.0)
    for _ in range(14):
        a, b = fixed.uniform(0, width), fixed.uniform(0, height)
        w, h = fixed.uniform(40, 160, 2)
        picture[(u > a) & (u < a + w) & (v > b) & (v < b + h)] = fixed.uniform(30, 190)
    a, b = rng.uniform(100, 500), rng.uniform(100, 350)
    picture[(u > a) & (u < a + 50) & (v > b) & (v < b + 50)] = 250
    noisy = picture * light + rng.normal(0, 3, size)
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def references():
    rng = np.random.default_rng(5)
    made = {
        name: reference_of([view_of(scene(rng, seed=seed)) for _ in range(8)], 640)
        for name, seed in (("front", 0), ("wrist", 1))
    }
    assert all(isinstance(one, CameraReference) for one in made.values())
    return made


@pytest.mark.parametrize("light", [0.6, 1.0, 1.4])
@pytest.mark.parametrize(
    ("shift", "turn_deg"), [((0, 0), 0), ((4, 0), 0), ((0, -4), 0), ((16, 9), 0), ((0, 0), 1)]
)
def test_a_camera_that_moved_is_told_by_how_far_in_any_light(references, shift, turn_deg, light):
    view = view_of(scene(np.random.default_rng(6), shift, turn_deg, light))
    fault = camera_faults({"front": view}, references).get("front", "")
    found = displacement(view, references["front"])
    assert found.shift_px == pytest.approx(np.hypot(*shift), abs=0.7)
    assert found.turn_deg == pytest.approx(turn_deg, abs=0.2)
    assert fault.startswith("camera front moved by") == (shift != (0, 0) or turn_deg != 0)


def test_swapped_cameras_are_told_by_name_and_a_covered_one_is_told(references):
    rng = np.random.default_rng(7)
    front, wrist = view_of(scene(rng, seed=0)), view_of(scene(rng, seed=1))
    assert camera_faults({"front": front, "wrist": wrist}, references) == {}
    faults = camera_faults({"front": wrist, "wrist": front}, references)
    assert faults["front"] == "camera front shows what wrist showed"
    assert faults["wrist"] == "camera wrist shows what front showed"
    covered = camera_faults({"front": np.full(front.shape, 3, np.uint8)}, references)
    assert covered["front"] == "camera front does not show what it showed"
    assert "shows 100×90 px" in camera_faults({"front": front[:90, :100]}, references)["front"]


def test_light_beyond_what_calibration_saw_is_a_reason_of_its_own(references):
    dim = view_of(scene(np.random.default_rng(8), light=0.6))
    assert camera_faults({"front": dim}, references)["front"].startswith(
        "light: camera front has 0"
    )
    rng = np.random.default_rng(9)
    lights = np.linspace(0.6, 1.2, 8)
    seen = reference_of([view_of(scene(rng, light=light)) for light in lights], 640)
    assert camera_faults({"front": dim}, {"front": seen}) == {}


def test_a_camera_whose_first_pictures_differ_is_not_compared_and_says_why():
    rng = np.random.default_rng(10)
    views = [view_of(scene(rng, seed=seed)) for seed in range(8)]
    assert "in common" in reference_of(views, 640)
    assert "got 2" in reference_of(views[:2], 640)
    assert "in common" in reference_of([np.full((120, 160), 3, np.uint8)] * 8, 640)  # a lens cap


def test_a_view_is_the_mean_over_squares_of_pixels_and_no_wider_than_160():
    picture = np.random.default_rng(13).integers(0, 256, (101, 333, 3), dtype=np.uint8)
    view = view_of(picture)
    assert view.shape == (33, 111)
    assert view[5, 7] == round(picture[15:18, 21:24].mean())
    assert view_of(picture[:96, :96]).shape == (96, 96)


# The file ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(references):
    rng = np.random.default_rng(11)
    progress = rng.normal(0.3, 0.02, 40)
    return World(drift_reference([{"progress": p} for p in progress]), references, {"top": "why"})


def test_a_calibration_keeps_its_world(world, tmp_path):
    made = replace(CALIBRATION, world=world)
    made.save(tmp_path / "calibration.json")
    found = load_calibration(tmp_path / "calibration.json")
    assert found.world.drift == world.drift and found.world.loose == {"top": "why"}
    for name, camera in world.cameras.items():
        np.testing.assert_array_equal(found.world.cameras[name].picture, camera.picture)
        np.testing.assert_array_equal(found.world.cameras[name].steady, camera.steady)
    assert found.key == made.key != CALIBRATION.key
    document = json.loads((tmp_path / "calibration.json").read_text())
    del document["world"]  # as an earlier version wrote it
    (tmp_path / "calibration.json").write_text(json.dumps(document))
    assert load_calibration(tmp_path / "calibration.json").world is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda w: w["drift"].update(progress=[1.0] * 5),
        lambda w: w["drift"].update(progress=[float(i) for i in range(30, 0, -1)]),
        lambda w: w["drift"].update(other=[1.0] * 30),
        lambda w: w["cameras"]["front"].update(size=[100_000, 100_000]),
        lambda w: w["cameras"]["front"].update(picture="AAAA"),
        lambda w: w["cameras"]["front"].update(steady=w["cameras"]["front"]["picture"]),
        lambda w: w["cameras"]["front"].update(shift_px=-1),
        lambda w: w.update(cameras=[]),
    ],
)
def test_a_damaged_world_is_refused_with_the_file(world, tmp_path, damage):
    file = tmp_path / "calibration.json"
    replace(CALIBRATION, world=world).save(file)
    document = json.loads(file.read_text())
    damage(document["world"])
    file.write_text(json.dumps(document))
    with pytest.raises(CalibrationError, match=r"calibration\.json: .*rewact calibrate"):
        load_calibration(file)


# The supervisor ---------------------------------------------------------------------------------


def watching(folder, world, on_withdrawal=OnWithdrawal.KEEP, source=SOURCE):
    judging = replace(
        CALIBRATED,
        calibration=replace(CALIBRATION, world=world),
        on_withdrawal=on_withdrawal,
    )
    bench = Bench(folder, judging, source=source)
    bench.reward = 0.3
    return bench


def show(bench, seconds, **views):
    """Run with what the cameras show now."""
    for _ in range(round(seconds / TICK_S)):
        for camera, view in views.items():
            bench.it.promise.look(camera, view)
        bench.run(TICK_S)


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(12)
    return {
        "front": view_of(scene(rng)),
        "wrist": view_of(scene(rng, seed=1)),
        "moved": view_of(scene(rng, (8, 0))),
    }


def test_a_moved_camera_withdraws_the_bound_before_the_policy_leads(tmp_path, world, views):
    bench = watching(tmp_path, world)
    bench.goal()
    show(bench, 0.5, front=views["front"], wrist=views["wrist"])
    assert bench.it.promise.bound.startswith("bound: false completions")
    bench.it.batch.end(Termination.CANCELLED, "")
    bench.run(1.0)
    bench.goal()
    show(bench, 0.1, front=views["moved"], wrist=views["wrist"])
    assert re.match(
        r"bound: withdrawn: camera front moved by [78]\.\d px, 0\.\d°", bench.it.promise.bound
    )
    assert "withdrawn" in bench.text and bench.it.episode is not None
    bench.run(0.2)
    warned = [h for h in bench.happenings if h.change is Change.WARNING]
    assert warned[0].detail == bench.it.promise.bound
    changes = [h.change for h in bench.happenings]
    assert changes.index(Change.WARNING) < len(changes) - 1 - changes[::-1].index(Change.RUNNING)


def test_an_episode_waits_a_second_for_views_that_do_not_come(tmp_path, world, views):
    bench = watching(tmp_path, world)
    bench.it.promise.look("front", views["front"])  # it was heard of, and is silent since
    bench.goal()
    bench.run(0.8)
    assert bench.it.episode.monitor is None
    bench.run(0.6)
    assert bench.it.episode.monitor is not None
    assert bench.it.promise.bound.startswith("bound: false completions")


def drifted(bench, world, episodes=20, reward=0.6):
    bench.reward = reward
    for number in range(1, episodes + 1):
        bench.goal()
        bench.run(WINDOW_S + 0.5)
        if bench.it.batch is not None:
            bench.it.batch.end(Termination.CANCELLED, "")
        bench.run(0.2)
        if bench.it.promise.withdrawn:
            return number
    return 0


def test_scores_that_drift_withdraw_the_bound_for_good(tmp_path, world):
    bench = watching(tmp_path, world)
    assert 0 < drifted(bench, world) <= 10
    reason = "bound: withdrawn: scores have drifted (progress, since about episode 1)"
    assert bench.it.promise.bound == reason
    again = watching(tmp_path, world)  # the supervisor is started anew
    assert again.it.promise.bound == reason and again.it.promise.withdrawn
    assert again.it.renew_bound().startswith("claimed again by anna, was withdrawn: scores")
    assert again.it.promise.bound.startswith("bound: false completions")
    with pytest.raises(RefusedError, match="no bound is withdrawn"):
        again.it.renew_bound()
    (kept,) = EpisodeMemory(state_file(str(tmp_path), "/", "arm")).now.bounds
    assert kept.drift.episodes == 0


def test_another_calibration_begins_with_its_bound(tmp_path, world):
    assert drifted(watching(tmp_path, world), world)
    other = World(drift_reference([{"progress": p} for p in np.linspace(0.5, 0.7, 40)]), {})
    assert watching(tmp_path, other).it.promise.withdrawn == ""


def test_what_another_policy_does_says_nothing_of_the_calibration(tmp_path, world, views):
    bench = watching(tmp_path, world, source=replace(SOURCE, policy_version="another"))
    assert drifted(bench, world) == 0
    bench.goal()
    show(bench, 0.2, front=views["moved"])
    assert bench.it.promise.bound.startswith("bound: not claimed")


def test_an_episode_with_a_person_in_its_first_seconds_is_not_scored(tmp_path, world):
    from test_supervisor import HUMAN

    bench = watching(tmp_path, world)
    bench.reward = 0.6
    for _ in range(12):
        bench.goal()
        bench.run(0.5)
        bench.control = HUMAN
        bench.run(0.5)
        bench.control = None
        bench.run(WINDOW_S + 0.5)
        bench.it.batch.end(Termination.CANCELLED, "")
        bench.run(0.2)
    assert bench.it.promise.withdrawn == "" and not bench.it.memory.now.bounds


def test_thresholds_fall_back_or_episodes_are_refused_where_that_is_asked_for(
    tmp_path, world, views
):
    kept, falls = (
        watching(tmp_path / mode, world, mode)
        for mode in (OnWithdrawal.KEEP, OnWithdrawal.FALLBACK)
    )
    for bench, expected in ((kept, 0.835), (falls, 0.9)):
        bench.goal()
        show(bench, 0.3, front=views["moved"])
        assert bench.it.episode.monitor.thresholds.completion == expected
    refuses = watching(tmp_path / "refuse", world, OnWithdrawal.REFUSE)
    refuses.goal(episodes=3)
    show(refuses, 0.3, front=views["moved"])
    assert refuses.it.episode is None
    assert Change.RUNNING not in [h.change for h in refuses.happenings]
    verdict = refuses.it.memory.now.last.verdict
    assert verdict.termination == "error" and "camera front moved" in verdict.detail
    refuses.it.batch.end(Termination.CANCELLED, "")
    refuses.run(1.0)
    with pytest.raises(RefusedError, match=r"withdrawn: camera front moved .* ~/renew_bound"):
        refuses.it.check(Plan("tidy up"), False, HOLD)


def test_a_state_file_of_before_is_read(tmp_path):
    file = state_file(str(tmp_path), "/", "arm")
    EpisodeMemory(file)
    document = json.loads(file.read_text())
    del document["bounds"]
    file.write_text(json.dumps(document))
    memory = EpisodeMemory(file)
    assert memory.damaged == "" and memory.now.bounds == ()
