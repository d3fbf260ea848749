"""The arm of one frame over the scene of an earlier one: pictures of failures nobody recorded."""

import dataclasses

import numpy as np
import pytest
from lerobot.utils.constants import OBS_STATE, REWARD

from rewact_ros.learning.imitation.batches import TrainingBatches
from rewact_ros.learning.imitation.demonstrations import Demonstrations
from rewact_ros.learning.imitation.settings import TrainSettings
from rewact_ros.learning.imitation.splices import Splices, TooFewToSpliceError

FIXED, HAND = "observation.images.front", "observation.images.wrist"
SIZE, EPISODES, FRAMES = 48, 12, 20
ARM, CUBE, GOAL = (200, 40, 40), (40, 220, 40), 40
GRASP = 10  # from this frame on the cube lies at the goal


def paint(picture: np.ndarray, column: int, row: int, size: int, colour: tuple[int, ...]) -> None:
    picture[row : row + size, column : column + size] = colour


def made(moving: bool = False, observations: int = 1) -> Demonstrations:
    """Episodes of an arm that sweeps from left to right, and a cube that jumps to the goal."""
    rng = np.random.default_rng(0)
    texture = rng.integers(90, 110, (SIZE, SIZE + FRAMES * 8, 3), dtype=np.uint8)
    texture[:, ::4] = rng.integers(0, 255, (SIZE, texture[:, ::4].shape[1], 3))
    front, wrist, state, reward = [], [], [], []
    for _ in range(EPISODES):
        place = int(rng.integers(0, 34))
        for frame in range(FRAMES):
            picture = np.full((SIZE, SIZE, 3), 100, np.uint8)
            paint(picture, GOAL if frame >= GRASP else place, 40, 6, CUBE)
            paint(picture, 2 * frame, 4, 8, ARM)
            sweeping = texture[:, 8 * frame : 8 * frame + SIZE]
            front.append(sweeping if moving else picture)
            wrist.append(sweeping)
            state.append([2.0 * frame])
            reward.append(frame / (FRAMES - 1))
    count = EPISODES * FRAMES
    episode = np.arange(count) // FRAMES
    return Demonstrations(
        source=None,
        fingerprint="made",
        fps=20,
        state=np.array(state, np.float32),
        action=np.array(state, np.float32),
        reward=np.array(reward, np.float32),
        teaches=np.ones(count, bool),
        succeeds=np.ones(count, bool),
        episode=episode,
        start=episode * FRAMES,
        end=episode * FRAMES + FRAMES,
        frames={FIXED: np.stack(front), HAND: np.stack(wrist)},
        camera_shapes={FIXED: (3, SIZE, SIZE), HAND: (3, SIZE, SIZE)},
    )


def columns(picture: np.ndarray, colour: tuple[int, ...]) -> set[int]:
    """Columns in which a colour is seen."""
    return set(np.flatnonzero((picture == colour).all(-1).any(0)).tolist())


@pytest.fixture(scope="module")
def drawn():
    data = made()
    splices = Splices(data, np.arange(len(data.episode)), seed=0)
    return splices, splices.draw(200, 1, np.random.default_rng(1))


def test_a_splice_shows_the_arm_of_its_state_and_a_label_of_what_the_scene_shows(drawn):
    _, sample = drawn
    late = 0
    for picture, state, label in zip(sample[FIXED], sample[OBS_STATE], sample[REWARD], strict=True):
        column = int(state[0])
        assert columns(picture, ARM) == set(range(column, column + 8))  # the arm, and only once
        done = columns(picture, CUBE) == set(range(GOAL, GOAL + 6))
        assert done == (label >= GRASP / (FRAMES - 1))
        late += not done and column >= 2 * GRASP
    assert late > 20  # the arm went on, the cube lay where it was: what a failure looks like


def test_a_splice_whose_scene_has_not_changed_has_the_label_of_its_arm(drawn):
    _, sample = drawn
    phase = np.rint(sample[REWARD] * (FRAMES - 1))
    arm = sample[OBS_STATE][:, 0] / 2
    same = phase == arm
    # Scenes differ by the cube alone: before the grasp all of an episode look alike, and after it.
    assert same[(arm < GRASP)].all()
    assert (phase[~same] < GRASP).all() and (arm[~same] >= GRASP).all()


def test_a_camera_in_the_hand_shows_the_scenes_own_picture(drawn):
    splices, sample = drawn
    assert splices.cameras == (FIXED,)
    data = made()
    own = {frame.tobytes() for frame in data.frames[HAND]}
    assert all(picture.tobytes() in own for picture in sample[HAND])


def test_a_history_of_a_splice_moves_the_arm_over_one_scene():
    data = made()
    splices = Splices(data, np.arange(len(data.episode)), seed=0)
    sample = splices.draw(20, 3, np.random.default_rng(2))
    assert sample[FIXED].shape == (20, 3, SIZE, SIZE, 3) and sample[REWARD].shape == (20,)
    for pictures, states in zip(sample[FIXED], sample[OBS_STATE], strict=True):
        # All show the cube where the scene has it, less the edge of what the arms bring along.
        assert len(set.intersection(*(columns(picture, CUBE) for picture in pictures))) >= 3
        for picture, state in zip(pictures, states, strict=True):
            column = int(state[0])
            assert columns(picture, ARM) == set(range(column, column + 8))


def test_failures_lend_neither_arm_nor_scene():
    data = made()
    failed = data.episode < 2
    data = dataclasses.replace(data, succeeds=~failed)
    splices = Splices(data, np.arange(len(data.episode)), seed=0)
    sample = splices.draw(100, 1, np.random.default_rng(3))
    own = {frame.tobytes() for frame in data.frames[HAND][~failed]}
    assert all(picture.tobytes() in own for picture in sample[HAND])


def test_splices_say_what_they_need():
    data = made(moving=True)
    rows = np.arange(len(data.episode))
    with pytest.raises(TooFewToSpliceError, match=f"stands still; all of {FIXED}, {HAND} move"):
        Splices(data, rows, seed=0)
    with pytest.raises(TooFewToSpliceError, match="more than 8 successful episodes.*got 8"):
        Splices(made(), rows[: 8 * FRAMES], seed=0)


def test_splices_that_teach_no_action_join_a_batch():
    data = made()
    rows = np.arange(len(data.episode))
    settings = TrainSettings(dataset="", out="", batch_size=16, splice=0.25)
    splices = Splices(data, rows, seed=0)
    whole = TrainingBatches(data, rows, settings, 5, 1, splices=splices)
    own, batch = whole[3]
    assert len(own) == 16 and {len(value) for value in batch.values()} == {20}
    assert batch["action_is_pad"][16:].all() and not batch["action_is_pad"][:16, 0].any()
    again = whole[3][1]
    assert all((batch[key] == again[key]).all() for key in batch)
    # Two processes have half of each, the same samples in all.
    halves = [TrainingBatches(data, rows, settings, 5, 1, p, 2, splices=splices) for p in (0, 1)]
    parts = [half[3][1] for half in halves]
    for key, value in batch.items():
        assert (parts[0][key] == value[::2]).all() and (parts[1][key] == value[1::2]).all()
