#!/usr/bin/env python3
"""An episode of a LeRobotDataset, shown inline: pictures, joints, commands and progress. No ROS.

Each `# %%` is a cell: VS Code and Spyder run this file as a notebook, `jupytext --to ipynb` makes
one of it. Set DATASET below there. As a script, it writes the picture beside itself:

    .venv/bin/python examples/show_episode.py DATASET [EPISODE] [OUT.png]
"""

# %% Which episode
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from rewact_ros.data.dataset.reader import open_dataset

in_notebook = "ipykernel" in sys.modules  # whose own arguments are not ours
given = [] if in_notebook else sys.argv[1:]
DATASET = Path(given[0] if given else "datasets/demo")
EPISODE = int(given[1]) if len(given) > 1 else 0
OUT = Path(given[2] if len(given) > 2 else "episode.png")

# %% Read it
data = open_dataset(DATASET)
meta = data.meta
span = meta.episodes[EPISODE]
rows = range(span["dataset_from_index"], span["dataset_to_index"])
vectors = [key for key in ("observation.state", "action") if key in meta.features]
# The label is what the episode teaches; the prediction is what a policy said when it was recorded.
curves = [key for key in ("next.reward", "predicted_reward") if key in meta.features]
table = data.hf_dataset.with_format("numpy").select_columns([*vectors, *curves])[
    rows.start : rows.stop
]
seconds = np.arange(len(rows)) / meta.fps
print(f"episode {EPISODE}: {', '.join(span['tasks'])}; {len(rows)} frames, {seconds[-1]:.1f} s")

# %% Show it
MOMENTS = 6
shown = np.linspace(0, len(rows) - 1, MOMENTS).round().astype(int)
cameras = meta.camera_keys
figure = plt.figure(figsize=(12, 2 * (len(cameras) + 2 + len(vectors))), layout="constrained")
grid = figure.add_gridspec(len(cameras) + 1 + len(vectors), MOMENTS)
for column, k in enumerate(shown):
    frame = data[rows[k]]
    for row, camera in enumerate(cameras):
        axes = figure.add_subplot(grid[row, column])
        axes.imshow(frame[camera].permute(1, 2, 0).numpy())  # (3, H, W) in [0, 1] → (H, W, 3)
        axes.set_title(f"{seconds[k]:.1f} s" if row == 0 else "")
        axes.set_ylabel(camera.rpartition(".")[2] if column == 0 else "")
        axes.set(xticks=[], yticks=[])
progress = figure.add_subplot(grid[len(cameras), :], ylabel="progress", ylim=(-0.05, 1.05))
for key in curves:
    progress.plot(seconds, np.asarray(table[key], float).reshape(-1), label=key)  # NaN: unknown
if curves:
    progress.legend(loc="upper left")
for row, key in enumerate(vectors, len(cameras) + 1):
    axes = figure.add_subplot(grid[row, :], ylabel=key, sharex=progress)
    axes.plot(seconds, np.asarray(table[key]))
    names = meta.features[key]["names"]
    if isinstance(names, list):
        axes.legend(names, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
axes = figure.axes[-1]
axes.set_xlabel("s")
if in_notebook:
    plt.show()
else:
    figure.savefig(OUT, dpi=80)
    print(f"written: {OUT}")
