"""`rewact train-classifier`: train the success classifier on labelled frames."""

import os
from pathlib import Path
from typing import Annotated

import typer


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
    arch: Annotated[str, typer.Option(help="small_cnn, resnet18 or resnet34.")] = "resnet18",
    hidden_dim: Annotated[int, typer.Option(help="Width of the hidden layer.")] = 256,
    dropout: Annotated[float, typer.Option(help="Before the logit.")] = 0.1,
    image_size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH in px, e.g. 128x128 (default: the dataset's).")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Go on from this classifier, with its model settings.")
    ] = None,
    margin: Annotated[
        int, typer.Option(help="Frames left out before success, for labels from outcomes.")
    ] = 5,
    val_fraction: Annotated[
        float, typer.Option(help="Share of episodes for early stopping and calibration.")
    ] = 0.1,
    test_fraction: Annotated[
        float, typer.Option(help="Share of episodes for the printed figures.")
    ] = 0.1,
    fail_success_ratio: Annotated[
        float, typer.Option(help="Failure frames per success frame in a batch.")
    ] = 3.0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps at most.")] = 2000,
    batch_size: Annotated[int, typer.Option(min=1, help="Frames per step.")] = 64,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 3e-4,
    weight_decay: Annotated[float, typer.Option(help="AdamW's weight decay.")] = 1e-4,
    random_shift_px: Annotated[int, typer.Option(help="Augmentation: largest shift, px.")] = 4,
    brightness: Annotated[float, typer.Option(help="Augmentation: change of brightness.")] = 0.2,
    noise: Annotated[float, typer.Option(help="Augmentation: noise of the pixels.")] = 0.01,
    eval_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 100,
    patience: Annotated[
        int, typer.Option(min=1, help="Validations without improvement before it stops.")
    ] = 5,
    min_delta: Annotated[float, typer.Option(help="Smallest improvement that counts.")] = 1e-4,
    seed: Annotated[int, typer.Option(help="Of weights, batches and split.")] = 0,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads on a CPU.")] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of decoded frames (default: ~/.cache/rewact_ros/frames)."),
    ] = None,
) -> None:
    """Train a success classifier; frames are labelled by `rewact label-frames` or by outcomes."""
    from rewact_ros.learning.classifier.settings import ClassifierSettings
    from rewact_ros.learning.classifier.train import train_classifier as run
    from rewact_ros.learning.imitation.settings import TrainError
    from rewact_ros.runs import new_run, require_writable

    if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainError("--out: several processes share a run; name its folder")
    require_writable(out)
    out = out or new_run("classifier") / "classifier"
    settings = ClassifierSettings(
        datasets=tuple(map(str, dataset)),
        out=str(out),
        cameras=tuple(camera or ()),
        arch=arch,
        hidden_dim=hidden_dim,
        dropout=dropout,
        image_size=None if image_size is None else _size(image_size),
        init=None if init is None else str(init),
        margin=margin,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        fail_success_ratio=fail_success_ratio,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        random_shift_px=random_shift_px,
        brightness=brightness,
        noise=noise,
        eval_every=eval_every,
        patience=patience,
        min_delta=min_delta,
        seed=seed,
        mixed_precision=mixed_precision,
        device=device,
        threads=threads,
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
