#!/usr/bin/env python3
"""Judge recorded episodes as if they were live: `examples/lerobot_judge.py JUDGE DATASET`. No ROS.

JUDGE is the checkpoint folder of whatever may judge, DATASET a LeRobotDataset's folder.
"""

import argparse
from pathlib import Path

from rewact_ros.data.dataset.reader import open_dataset
from rewact_ros.episodes.judge import EpisodeJudge


def main() -> None:
    """Print a verdict per episode, and what it promises."""
    options = argparse.ArgumentParser()
    options.add_argument("judge", type=Path)
    options.add_argument("dataset", type=Path)
    options.add_argument("--task", default="", help="for a judge that is told so in words")
    given = options.parse_args()
    data = open_dataset(given.dataset)
    judge = EpisodeJudge.open(given.judge, rate_hz=data.fps, instruction=given.task)
    print(f"{judge.description}; {judge.bound}")
    for episode in data.meta.episodes:
        judge.reset()
        for row in range(episode["dataset_from_index"], episode["dataset_to_index"]):
            frame = data[row]
            seen = {"observation.state": frame["observation.state"].numpy()}
            for camera in data.meta.camera_keys:  # (3, H, W) in [0, 1] → (H, W, 3) uint8
                seen[camera] = (frame[camera] * 255).round().byte().permute(1, 2, 0).numpy()
            now = judge.step(seen, frame["timestamp"].item())
            if now.verdict is not None:
                break
        outcome = (
            "goes on"
            if now.verdict is None
            else f"{now.verdict.outcome.name.lower()}, {now.verdict.reason}"
        )
        print(f"episode {episode['episode_index']}: {outcome}; progress {now.progress_text}")


if __name__ == "__main__":
    main()
