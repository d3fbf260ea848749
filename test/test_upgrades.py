"""Side files of other versions: read, or refused whole with the way.

`test/upgrades/` keeps one of each kind and format, as the version wrote it that had the format. A
stored file is never written anew: a change of format adds one beside it, and a line to `KINDS`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from lerobot.datasets.dataset_tools import delete_episodes, merge_datasets, split_dataset
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from rewact_ros.contract import ContractError, load_contract
from rewact_ros.data.bags.episode_file import EpisodeFileError, read_episode
from rewact_ros.data.dataset.info import DatasetError, recorded_signature
from rewact_ros.data.dataset.made_for import require_made_for
from rewact_ros.data.labels.frames import frame_labels_file, read_frame_labels
from rewact_ros.data.labels.plan import keypoint_file, plan_labels
from rewact_ros.data.labels.settings import MARKS_FILE, LabelSettings
from rewact_ros.data.labels.write import open_labelled
from rewact_ros.data.review.dataset_notes import notes_file, read_notes
from rewact_ros.data.review.rows import ReviewError
from rewact_ros.episodes.verdicts import read_rollouts
from rewact_ros.formats import UPDATE, FormatError, require_format
from rewact_ros.learning.imitation.settings import TrainError
from rewact_ros.learning.imitation.training_state import TrainingState
from rewact_ros.learning.rl.journal import Journal, JournalError
from rewact_ros.learning.rl.learner_state import read_counts
from rewact_ros.learning.rl.settings import LearnError
from rewact_ros.learning.rl.updates import updates_seen
from rewact_ros.policy.checkpoint_files import WEIGHTS, open_folder
from rewact_ros.reward.keypoints import LabelError
from rewact_ros.supervision.calibration import CalibrationError, load_calibration
from rewact_ros.supervision.memory import EpisodeMemory
from rewact_ros.trials.journal import read_course
from rewact_ros.trials.study import StudyError, read_study

STORED = Path(__file__).parent / "upgrades"
LENGTHS = (6, 6, 4)


def write_tiny(root: Path, lengths: tuple[int, ...] = LENGTHS, first: int = 0) -> LeRobotDataset:
    """A dataset without cameras; the episodes' actions count from `first`."""
    feature = {"dtype": "float32", "shape": (2,), "names": ["a", "b"]}
    features = {"observation.state": feature, "action": feature}
    dataset = LeRobotDataset.create("local/tiny", 10, features, root=root)
    for episode, length in enumerate(lengths, first):
        for frame in range(length):
            values = np.array([episode, frame], np.float32)
            dataset.add_frame({"observation.state": values, "action": values, "task": "tiny"})
        dataset.save_episode()
    dataset.finalize()
    return LeRobotDataset("local/tiny", root=root)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> LeRobotDataset:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny")


def _marks(root: Path) -> int:
    return len(plan_labels(open_labelled(root), [0, 1, 2], LabelSettings()))


def _memory(root: Path) -> str:
    memory = EpisodeMemory(root / "supervisor-arm.json")
    if memory.damaged:  # set aside, so that the robot can go on
        raise ValueError(memory.damaged)
    assert memory.now.batch is not None
    return memory.now.batch.task


def _transitions(root: Path) -> list[str]:
    journal = Journal(root / "robot")
    try:
        return [transition.episode for transition in journal.read()]
    finally:
        journal.close()


def _study(root: Path) -> int:
    return len(read_course(root, read_study(root)).results)


def _updates(root: Path) -> int:
    (root / "version" / WEIGHTS).touch()
    return updates_seen(open_folder(root / "version"))


class Kind(NamedTuple):
    """A stored file: where it lies in `upgrades`, who reads it in a dataset's folder, and what."""

    file: str
    read: Callable[[Path], Any]
    found: Any
    error: type[Exception]


KINDS = [
    Kind("contract_1/arm.yaml",
         lambda r: load_contract(r / "arm.yaml").robot, "arm", ContractError),
    Kind("record_1/meta/contract.json",
         lambda r: recorded_signature(r)["rate_hz"], 10, DatasetError),
    Kind("episode_1/episode.json", lambda r: read_episode(r).outcome, "success", EpisodeFileError),
    Kind("calibration_1/calibration.json",
         lambda r: load_calibration(r / "calibration.json").episodes, 80, CalibrationError),
    Kind("memory_1/supervisor-arm.json", _memory, "tidy up", ValueError),
    Kind("labels_1/rewact_extensions/labels.yaml", _marks, 1, LabelError),
    Kind("frames_version_1/rewact_extensions/frame_labels.json",
         lambda r: read_frame_labels(r, 0)[1].tolist(), [0, 0, 0, 1, 1, -1], LabelError),
    Kind("frames_1/rewact_extensions/frame_labels.json",
         lambda r: read_frame_labels(r, 0)[1].tolist(), [0, 0, 0, 1, 1, -1], LabelError),
    Kind("notes_1/rewact_extensions/review/episode-000001.json",
         lambda r: read_notes(r, 1).note, "slipped", ReviewError),
    Kind("rollouts_1/meta/rollouts.json",
         lambda r: read_rollouts(r)["policy"]["version"], "abc", DatasetError),
    Kind("journal_1/robot/journal-00000.bin", _transitions, ["7", "7"], JournalError),
    Kind("state_1/state.json", lambda r: read_counts(r / "state.json")["updates"], 3, LearnError),
    Kind("learned_1/version/learned.json", _updates, 5, LearnError),
    Kind("step_1/checkpoints/last/training_state/step.json",
         lambda r: TrainingState.find(r).step, 40, TrainError),
    Kind("study_1/study.json", _study, 1, StudyError),
]  # fmt: skip


@pytest.fixture(params=KINDS, ids=lambda kind: kind.file)
def stored(request, tiny, tmp_path) -> tuple[Kind, Path, Path]:
    """A kind, a dataset's folder with its stored file, and that file."""
    folder, _, name = request.param.file.partition("/")
    root = Path(shutil.copytree(tiny.root, tmp_path / "data"))
    shutil.copytree(STORED / folder, root, dirs_exist_ok=True)
    return request.param, root, root / name


def test_a_stored_file_is_read(stored):
    kind, root, _ = stored
    assert kind.read(root) == kind.found


def test_a_newer_format_is_refused_with_the_way_and_left_as_it_is(stored):
    kind, root, file = stored
    content = _newer(file)
    with pytest.raises(kind.error) as error:
        kind.read(root)
    said = str(error.value)
    assert file.name in said and "format: expected 1, got 9" in said and UPDATE in said
    assert content in [path.read_bytes() for path in file.parent.iterdir() if path.is_file()]


def _newer(file: Path) -> bytes:
    """Let a file be of format 9, with content that nobody knows yet."""
    if file.suffix == ".bin":
        content = b"RWT9" + file.read_bytes()[4:]
    elif file.suffix == ".yaml":
        lines = [line for line in file.read_text().splitlines() if not line.startswith("format:")]
        content = "\n".join([*lines, "format: 9", "later: {}"]).encode()
    else:
        content = json.dumps(json.loads(file.read_text()) | {"format": 9, "later": {}}).encode()
    file.write_bytes(content)
    return content


def test_all_stored_files_are_read_by_a_line():
    beside = {"study_1/trials.jsonl", "journal_1/robot/run"}
    found = {str(path.relative_to(STORED)) for path in STORED.rglob("*") if path.is_file()}
    assert found == {kind.file for kind in KINDS} | beside


@pytest.mark.parametrize("document", [[], {}, {"format": "2"}, {"format": True}, {"format": 0}])
def test_no_format_and_an_older_one_say_how_to_mend(document):
    with pytest.raises(FormatError, match="of format 2, got|expected 2, got .*; make it anew") as e:
        require_format(document, 2, "make it anew", older=[1])
    assert "make it anew" in str(e.value)
    assert require_format({"format": 1}, 2, "make it anew", older=[1]) == 1


# LeRobot's editing of datasets -------------------------------------------------------------------


@pytest.fixture
def labelled(tiny, tmp_path) -> LeRobotDataset:
    """A copy of `tiny` with a file of each kind that speaks of its episodes."""
    root = Path(shutil.copytree(tiny.root, tmp_path / "labelled"))
    for folder in ("labels_1", "frames_1", "notes_1"):
        shutil.copytree(STORED / folder, root, dirs_exist_ok=True)
    return LeRobotDataset("local/tiny", root=root)


def _carry(source: LeRobotDataset, edited: LeRobotDataset) -> Path:
    """What the tools leave behind, somebody copies."""
    assert not (edited.root / "rewact_extensions").exists()
    shutil.copytree(source.root / "rewact_extensions", edited.root / "rewact_extensions")
    return Path(edited.root)


def _refused(root: Path) -> str:
    """That every file made for other episodes is refused, by its name."""
    said = []
    for error, file, read in (
        (LabelError, frame_labels_file(root), lambda: read_frame_labels(root, 0)),
        (LabelError, keypoint_file(root), lambda: _marks(root)),
        (ReviewError, notes_file(root, 1), lambda: read_notes(root, 1)),
    ):
        with pytest.raises(error, match=r"stale: made for 3 episodes.*move the file away") as found:
            read()
        assert file is not None and file.name in str(found.value)
        said.append(str(found.value))
    return said[0]


def test_files_carried_to_a_dataset_with_episodes_deleted_or_split_off_are_stale(
    labelled, tmp_path
):
    left = delete_episodes(labelled, [0], output_dir=tmp_path / "left", repo_id="local/left")
    assert "the dataset has 2 now" in _refused(_carry(labelled, left))
    parts = split_dataset(labelled, {"a": [0, 1], "b": [2]}, output_dir=tmp_path / "parts")
    for part in parts.values():
        _refused(_carry(labelled, part))


def test_after_a_merge_the_files_of_the_first_dataset_fit_and_those_of_others_are_stale(
    labelled, tmp_path
):
    other = write_tiny(tmp_path / "other", first=5)
    for name, order in (("after", [labelled, other]), ("before", [other, labelled])):
        merged = merge_datasets(order, f"local/{name}", output_dir=tmp_path / name)
        root = _carry(labelled, merged)
        if name == "before":  # of the same lengths
            assert "the dataset has 6 now, which begin with others" in _refused(root)
        else:
            assert read_frame_labels(root, 0)[1].max() == 1 and _marks(root) == 1
            assert read_notes(root, 1).note == "slipped"


def test_other_episodes_of_the_same_number_and_lengths_are_told_apart(labelled, tmp_path):
    assert "the dataset has others now" in _refused(
        _carry(labelled, write_tiny(tmp_path / "other", first=5))
    )


def test_a_file_by_hand_is_checked_by_what_it_names(labelled, tmp_path):
    left = delete_episodes(labelled, [2], output_dir=tmp_path / "left", repo_id="local/left")
    root = _carry(labelled, left)
    text = (root / MARKS_FILE).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("dataset:")]
    (root / MARKS_FILE).write_text("\n".join(lines))
    assert _marks(root) == 1
    require_made_for(root, None)
    with pytest.raises(DatasetError, match="expected episodes and hash"):
        require_made_for(root, {"episodes": "x"})
