"""What stands before and behind it: what LeRobot puts there for every policy."""

from lerobot.processor import make_default_pre_post_processors


def make_told_act_pre_post_processors(config, dataset_stats=None):
    """As ACT has them; the text goes through untouched."""
    return make_default_pre_post_processors(config, dataset_stats, normalizer_device=config.device)
