"""What the panel shows: rates from transitions, the way to the target, the videos."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from test_rl_agent import make_base
from test_rl_learner import QUICK, episode

from rewact_ros.cli.learn_panel import panel
from rewact_ros.contract import Contract
from rewact_ros.learning.rl.figures import EpisodeFigures, RunFigures, minutes_to_target
from rewact_ros.learning.rl.film import EpisodeFilm
from rewact_ros.learning.rl.settings import preset
from rewact_ros.learning.rl.transitions import Transition

RL = preset("residual", **QUICK)


def turn(name: str, first: int, steps: int, **more: object) -> Transition:
    reward = np.zeros(steps, np.float32)
    reward[-1] = more.pop("reward", 0.0)
    success = bool(reward[-1] > 0)
    action = np.zeros((steps, 7), np.float32)
    return Transition(name, first, {}, action, reward, success=success, **more)


def test_rates_come_from_the_turns_of_episodes():
    figures = RunFigures(dt_s=0.5, discount=0.9, target=0.95)
    assert "success" not in figures.now()  # nothing is known yet, and nothing is made up
    over = [
        figures.add(t)
        for t in (
            turn("a", 0, 2, human=False, terminated=True, reward=1.0),
            turn("b", 0, 2, human=False, terminated=True),  # a call for help
            turn("b", 4, 3, human=True),
            turn("b", 7, 1, human=True, terminated=True, reward=1.0),
            turn("c", 0, 1, human=False, terminated=True),  # one that nobody answered
            turn("d", 0, 1, human=False),  # cut short by a kill
            turn("e", 0, 2, human=False, truncated=True),
        )
    ]
    assert over == [True, False, False, True, False, False, True]
    now = figures.now()
    assert now["episodes"] == 4
    assert now["success"] == 0.5 and now["success_alone"] == 0.25
    assert now["interventions"] == 0.25
    assert now["human_share"] == pytest.approx(4 / 11)
    assert now["return"] == pytest.approx((0.9 + 0.9**7) / 4)
    assert now["robot_min"] == pytest.approx(12 * 0.5 / 60)


def history(alone: list[int]) -> list[EpisodeFigures]:
    blank = EpisodeFigures(0.0, False, False, 0, 0.0, 1.0, 0.0)
    return [replace(blank, minute=0.5 * k, alone=bool(a)) for k, a in enumerate(alone)]


def test_the_way_to_the_target_is_unknown_unless_a_trend_is_there():
    assert np.isnan(minutes_to_target(history([0] * 19), 0.9))
    assert np.isnan(minutes_to_target(history([1, 0] * 20), 0.9))
    assert np.isnan(minutes_to_target(history([1] * 20 + [0] * 20), 0.9))
    assert minutes_to_target(history([0] * 20 + [1] * 20), 0.9) == 0
    rising = [0] * 20 + [0, 0, 1] * 5 + [0, 1] * 5 + [1, 1, 0] * 5
    assert 1 < minutes_to_target(history(rising), 0.95) < 60


def test_the_panel_says_unknown_where_it_is():
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as capture:
        console.print(panel({"success": 0.5, "minutes_to_target": float("nan"), "other": 1}))
    shown = capture.get()
    assert "50%" in shown and "unknown" in shown and "other" not in shown


def test_every_second_episode_becomes_a_video_of_what_the_learner_saw(
    vx300s: Contract, tiny_policy: Path, tmp_path: Path
):
    base = make_base(tiny_policy, vx300s, RL)
    film, figures = EpisodeFilm(tmp_path, 2, 20.0, base.cameras), RunFigures(0.05, 0.99, 0.9)
    for number in range(3):
        for transition in episode(base, RL, number, "ppphhhpp"):
            over = figures.add(transition)
            film.add(transition, figures.episodes - over, over)
    assert sorted(f.name for f in tmp_path.glob("*.mp4")) == ["000000.mp4", "000002.mp4"]
    with av.open(str(tmp_path / "000000.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 9
