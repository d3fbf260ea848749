"""Demonstrations written and read back through LeRobot, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from rewact_ros.contract import check_signature, load_contract
from rewact_ros.episodes.demonstration import demonstrate
from rewact_ros.episodes.demos import DemosError, DemoSettings, episode_labels, write_demos
from rewact_ros.sim.pick_place.simulation import JOINTS
from rewact_ros.sim.pick_place.task import PickPlace

CONTRACT = Path(__file__).parents[1] / "config" / "robots" / "vx300s.yaml"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    settings = DemoSettings(
        tmp_path_factory.mktemp("demos") / "set",
        CONTRACT,
        episodes=1,
        failures=1,
        retries=0,
        seed=120_000,
        workers=1,
    )
    report = write_demos(settings, progress=False)
    dataset = LeRobotDataset("local/set", root=settings.out, video_backend="pyav")
    return settings, report, dataset


def test_round_trip_keeps_states_actions_labels_and_pictures(written):
    settings, report, dataset = written
    assert dataset.meta.total_episodes == 2 and dataset.fps == 20
    sim = PickPlace()
    row = 0
    for index, summary in enumerate(report["episodes"]):
        episode = demonstrate(sim, summary["seed"], summary["fault"], noise_rad=settings.noise_rad)
        frames = len(episode.action)
        table = dataset.hf_dataset.with_format("numpy")[row : row + frames]
        np.testing.assert_array_equal(table["observation.state"], episode.state)
        np.testing.assert_array_equal(table["action"], episode.action)
        for key, expected in episode_labels(episode, PickPlace).items():
            np.testing.assert_array_equal(table[key], expected, err_msg=key)
        assert set(table["episode_index"]) == {index}
        for camera in ("front", "wrist"):
            picture = dataset[row + 40][f"observation.images.{camera}"].permute(1, 2, 0).numpy()
            difference = np.abs(picture * 255 - episode.images[camera][40])
            assert difference.mean() < 3
        row += frames
    assert row == dataset.meta.total_frames
    sim.close()


def test_labels_tell_success_from_failure(written):
    _, report, dataset = written
    table = dataset.hf_dataset.with_format("numpy")[:]
    ends = np.flatnonzero(table["next.done"])
    assert len(ends) == 2
    for end, summary in zip(ends, report["episodes"], strict=True):
        good = summary["success_frame"] is not None
        assert table["next.reward"][end] == float(good)
        assert table["next.success"][end] == good
        assert table["demo_is_pad"][end] != good
    assert {summary["fault"] for summary in report["episodes"]} == {None, "dropped_cube"}


def test_the_set_carries_its_contract(written):
    settings, _, dataset = written
    contract = load_contract(CONTRACT)
    stored = json.loads((settings.out / "meta" / "contract.json").read_text())
    assert stored["hash"] == contract.hash
    check_signature(contract, stored["signature"], "data set")
    assert tuple(dataset.meta.features["action"]["names"]) == JOINTS
    assert not settings.out.with_name("set.partial").exists()


def test_an_existing_folder_is_refused(written):
    settings, _, _ = written
    with pytest.raises(DemosError, match="exists"):
        write_demos(settings)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*arguments):
        (tmp_path / "set.partial").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("rewact_ros.episodes.demos._record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_demos(DemoSettings(tmp_path / "set", CONTRACT))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": -1}, "episodes"),
        ({"retries": 9, "episodes": 3}, "retries"),
        ({"episodes": 0, "failures": 0, "retries": 0}, "nothing to record"),
        ({"noise_rad": 2.0}, "noise"),
        ({"workers": 0}, "workers"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, changes, message):
    with pytest.raises(DemosError, match=message):
        DemoSettings(tmp_path / "set", CONTRACT, **changes)
