"""Opening a checkpoint of type ``rewact`` (ours or a public RewACT package's) or ``act``."""

from pathlib import Path

import torch
from lerobot.processor import PolicyProcessorPipeline

from .checkpoint_config import read_config
from .checkpoint_files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles
from .configuration_rewact import RewACTConfig
from .modeling_rewact import RewACTPolicy
from .processor_rewact import make_rewact_pre_post_processors
from .processors import (
    POSTPROCESSOR,
    PREPROCESSOR,
    load_processors,
    prepare_statistics,
    relative_actions,
)
from .upstream import Layout, Stats, convert, layout_of
from .weights import check_weights, load_tensors, resolve_device


def open_rewact(
    files: CheckpointFiles, device: str
) -> tuple[RewACTPolicy, PolicyProcessorPipeline, PolicyProcessorPipeline]:
    """Make the policy, in eval mode on the device, with its processors; see ``load_policy``."""
    weights = load_tensors(files, WEIGHTS)
    raw = files.json(CONFIG) if CONFIG in files else {}
    layout = layout_of(weights, raw.get("type"))
    _require_files(files, layout)
    device = resolve_device(device)
    stats: Stats = {}
    if layout is not Layout.OURS:
        try:
            raw, weights, stats = convert(layout, raw, weights)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{files.path}: {error}") from error
    config = read_config(RewACTConfig, raw, str(files.path / CONFIG), device)
    if layout is not Layout.BUFFERS and config.action_representation is None:
        width = config.action_feature.shape[0]
        config.action_representation = relative_actions(files, width)
    with torch.device("meta"):  # first without memory, to see that the weights fit
        shapes = _new_policy(config, files.path / CONFIG).state_dict()
    check_weights(str(files.path / WEIGHTS), shapes, weights)
    processors = _processors(files, layout, config, stats, device)
    policy = _new_policy(config, files.path / CONFIG)
    policy.load_state_dict(weights)
    return policy.to(device).eval(), *processors


def _require_files(files: CheckpointFiles, layout: Layout) -> None:
    names = [CONFIG] if layout is Layout.BUFFERS else [CONFIG, PREPROCESSOR, POSTPROCESSOR]
    missing = [name for name in names if name not in files]
    if missing:
        raise CheckpointError(
            f"{files.path}: missing {', '.join(missing)}; expected a folder written by "
            "`rewact train` or LeRobot's save_pretrained (with both processors)"
        )


def _new_policy(config: RewACTConfig, where: Path) -> RewACTPolicy:
    try:
        return RewACTPolicy(config)
    except Exception as error:  # LeRobot's and torch's constructors raise several families
        raise CheckpointError(
            f"{where}: no policy can be built from it: "
            f"{' '.join(str(error).split())[:300] or type(error).__name__}; use the file of the "
            "run that trained it"
        ) from error


def _processors(
    files: CheckpointFiles, layout: Layout, config: RewACTConfig, stats: Stats, device: str
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    if layout is not Layout.BUFFERS:
        return load_processors(files, config, device)
    features = {**config.input_features, **config.output_features}
    prepare_statistics(str(files.path / WEIGHTS), features, config.normalization_mapping, stats)
    return make_rewact_pre_post_processors(config, stats)
