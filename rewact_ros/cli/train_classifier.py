"""`rewact train-classifier`: train the success classifier on labelled frames."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.learning.classifier.settings import ClassifierSettings
from rewact_ros.learning.imitation.settings import TrainError


@with_options
def train_classifier(
    dataset: Annotated[
        list[Path], typer.Option("--dataset", help="Folder of a LeRobotDataset v3; may repeat.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Checkpoint folder (default: runs/<time>-classifier/classifier)."),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option("--camera", help="Feature key; may repeat (default: all common ones)."),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH in px, e.g. 128x128 (default: the dataset's).")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Go on from this classifier, with its model settings.")
    ] = None,
    *,
    given: Annotated[dict[str, Any], OptionsOf(ClassifierSettings)],
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of decoded frames (default: ~/.cache/rewact_ros/frames)."),
    ] = None,
) -> None:
    """Train a success classifier; frames are labelled by `rewact label-frames` or by outcomes."""
    from rewact_ros.learning.classifier.train import train_classifier as run
    from rewact_ros.runs import new_run, require_writable

    if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainError("--out: several processes share a run; name its folder")
    require_writable(out)
    out = out or new_run("classifier") / "classifier"
    settings = ClassifierSettings(
        datasets=tuple(map(str, dataset)),
        out=str(out),
        cameras=tuple(camera or ()),
        image_size=None if image_size is None else _size(image_size),
        init=None if init is None else str(init),
        **given,
    )
    figures = run(settings, cache=cache)
    if int(os.environ.get("RANK", "0")) == 0:
        text = "  ".join(f"{name}={value:.4g}" for name, value in figures.items())
        typer.echo(f"classifier: {out}  {text or '(no test split, no figures)'}")


def _size(text: str) -> tuple[int, int]:
    height, separator, width = text.lower().partition("x")
    if not separator or not (height.isdecimal() and width.isdecimal()):
        raise ValueError(f"--image-size {text}: expected HEIGHTxWIDTH, e.g. 128x128")
    return int(height), int(width)
