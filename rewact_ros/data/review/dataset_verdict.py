"""The outcome of a dataset's episode changed, and changed back, by the labels that tell it.

An outcome is no column of its own: `next.success` and `next.reward` say it. They are written as
`rewact label` writes them, in one step with the notes that keep who judged, when, and the labels
that were there before.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rewact_ros.data.bags.episode_file import OUTCOMES, now_text
from rewact_ros.data.labels.plan import keypoint_file, label_file_of, labels_by
from rewact_ros.data.labels.settings import LabelSettings
from rewact_ros.data.labels.write import (
    EpisodeLabels,
    LabelledDataset,
    open_labelled,
    write_labels,
)
from rewact_ros.data.review.dataset_index import dataset_signature
from rewact_ros.data.review.dataset_notes import (
    MOST_VERDICTS,
    Notes,
    pack,
    read_notes,
    unpack,
    write_notes,
)
from rewact_ros.data.review.rows import ReviewError
from rewact_ros.reward.keypoints import LabelError
from rewact_ros.reward.label_file import EpisodePlan


def judge_episode(root: Path, episode: int, outcome: str, by: str) -> None:
    """Give an episode an outcome.

    A success gets the curve that was marked for it, where that reaches 1, else a ramp in time; a
    failure the marked curve where it never does, else the ramp of `rewact label --failed`;
    unlabelled: nothing is known.

    Raises:
        ReviewError: no such outcome, or the notes cannot be read.
        LabelError, DatasetError: it cannot be written; nothing was changed.
    """
    if outcome not in OUTCOMES:
        raise ReviewError(f"outcome: expected one of {', '.join(OUTCOMES)}, got {outcome!r:.60}")
    with_signature = dataset_signature(root)
    dataset = open_labelled(root)
    notes, labels = read_notes(root, episode), dataset.labels_of(episode)
    entry = {
        "outcome": outcome_of(labels),
        "by": notes.by,
        "labelled_at": notes.labelled_at,
        "labels": pack(labels),
        "replaced_by": by,
        "replaced_at": now_text(),
    }
    judged = outcome != "unlabelled"
    changed = replace(
        notes,
        by=by if judged else "",
        labelled_at=now_text() if judged else "",
        verdicts=[*notes.verdicts, entry][-MOST_VERDICTS:],
    )
    _write(dataset, episode, _labels(dataset, episode, outcome), changed, with_signature)


def take_back(root: Path, episode: int, by: str) -> None:
    """Go back to the newest verdict that nobody went back to yet, label by label.

    Raises:
        ReviewError: there is none, or its labels do not fit the episode.
        LabelError, DatasetError: as `judge_episode`.
    """
    with_signature = dataset_signature(root)
    dataset, notes = open_labelled(root), read_notes(root, episode)
    places = [k for k, entry in enumerate(notes.verdicts) if "restored_at" not in entry]
    if not places:
        raise ReviewError("no verdict before this one is known")
    verdicts = [dict(entry) for entry in notes.verdicts]
    entry = verdicts[places[-1]]
    labels = unpack(entry.pop("labels", None), dataset.lengths[episode])
    entry |= {
        "restored_by": by,
        "restored_at": now_text(),
        "taken_back": outcome_of(dataset.labels_of(episode)),
    }
    changed = replace(
        notes,
        by=str(entry.get("by", "")),
        labelled_at=str(entry.get("labelled_at", "")),
        verdicts=verdicts,
    )
    _write(dataset, episode, labels, changed, with_signature)


def outcome_of(labels: EpisodeLabels) -> str:
    """The outcome that labels tell, as the list shows it."""
    if labels.success.any():
        return "success"
    return "failure" if np.isfinite(labels.reward).any() else "unlabelled"


def _labels(dataset: LabelledDataset, episode: int, outcome: str) -> EpisodeLabels:
    n, settings = dataset.lengths[episode], LabelSettings()
    if outcome == "unlabelled":
        return EpisodeLabels.unknown(n)
    path = keypoint_file(dataset.root)
    if path is not None:
        known = label_file_of(dataset.root, path, dataset.fps, dataset.lengths)
        if episode in known.episodes:
            plan, between = known.episodes[episode], known.interpolation or "pchip"
            made = labels_by(plan, n, settings, between)
            if outcome_of(made) == outcome:
                return made
    cap = 1.0 if outcome == "success" else settings.failed_cap
    return labels_by(EpisodePlan(ramp_to=cap), n, settings, "pchip")


def _write(
    dataset: LabelledDataset,
    episode: int,
    labels: EpisodeLabels,
    notes: Notes,
    with_signature: object,
) -> None:
    root = dataset.root

    def also(copy: Path) -> None:
        # Within the lock: who labelled since we read would lose it.
        if dataset_signature(root) != with_signature:
            raise LabelError(f"{root.name}: another process has changed it meanwhile; try again")
        write_notes(copy, episode, notes)

    write_labels(dataset, {episode: labels}, also)
