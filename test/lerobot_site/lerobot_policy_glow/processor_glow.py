"""Its processors: the state is normalised by what the checkpoint was saved with."""

from lerobot.processor import NormalizerProcessorStep, PolicyProcessorPipeline


def make_glow_pre_post_processors(config, dataset_stats=None):
    norm = NormalizerProcessorStep(
        features=config.input_features, norm_map=config.normalization_mapping, stats=dataset_stats
    )
    return (
        PolicyProcessorPipeline(steps=[norm], name="policy_preprocessor"),
        PolicyProcessorPipeline(steps=[], name="policy_postprocessor"),
    )
