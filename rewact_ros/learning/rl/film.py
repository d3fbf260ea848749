"""Episodes of a run as small videos, from what the learner itself sees."""

from pathlib import Path

import numpy as np

from rewact_ros.data.video.reward_chart import Reading
from rewact_ros.data.video.reward_video import RewardVideo

from .transitions import IMAGES, PROGRESS, Transition

_FRAME_PX = 2  # of the border that marks a human's turn, at the size that the learner sees
_HUMAN = (255, 120, 0)


class EpisodeFilm:
    """Collects the transitions of every n-th episode and writes its video when it is over.

    Args:
        folder: of the videos.
        every: episodes from one video to the next; 0: none.
        rate_hz: of the robot's steps.
        cameras: their names.
    """

    def __init__(self, folder: Path, every: int, rate_hz: float, cameras: list[str]) -> None:
        self._folder, self._every, self._rate_hz = folder, every, rate_hz
        self._cameras = cameras
        self._turns: list[Transition] = []

    def add(self, transition: Transition, number: int, over: bool) -> Path | None:
        """Take a transition of the run's ``number``-th episode; returns the video if one is made.

        Raises:
            VideoError: it cannot be written.
        """
        if not self._every or number % self._every or IMAGES not in transition.observations:
            return None
        if self._turns and self._turns[-1].episode != transition.episode:
            self._turns = []
        self._turns.append(transition)
        if not over:
            return None
        turns, self._turns = self._turns, []
        return self._write(turns, number)

    def _write(self, turns: list[Transition], number: int) -> Path:
        last = turns[-1]
        verdict = "success" if last.success else "no success"
        title = f"episode {number}: {verdict}; framed while a human leads"
        path = self._folder / f"{number:06d}.mp4"
        with RewardVideo(path, title, self._rate_hz, name="progress") as video:
            for turn in turns:
                for k in range(len(turn)):
                    self._frame(video, turn, k)
            self._frame(video, last, len(last))
        return path

    def _frame(self, video: RewardVideo, turn: Transition, k: int) -> None:
        images = np.array(turn.observations[IMAGES][k])
        if turn.human:
            for edge in (np.s_[:, :_FRAME_PX], np.s_[:, -_FRAME_PX:]):
                images[edge] = _HUMAN
            images[:, :, :_FRAME_PX] = images[:, :, -_FRAME_PX:] = _HUMAN
        video.add(
            (turn.first + k) / self._rate_hz,
            dict(zip(self._cameras, images, strict=True)),
            Reading(float(turn.observations[PROGRESS][k])),
        )
