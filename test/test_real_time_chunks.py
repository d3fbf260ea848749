"""A slow policy whose noise chooses the way: by real-time chunking it keeps to the way it is on."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.import_utils import register_third_party_plugins

from rewact_ros.policy.checkpoint import load_policy, save_policy
from rewact_ros.policy.engine import TorchEngine

SITE = Path(__file__).parent / "lerobot_site"
RATE_HZ, JOINTS = 20, 3


@pytest.fixture(scope="module")
def flowing(tmp_path_factory):
    """Checkpoint of the plug-in in `lerobot_site`."""
    from lerobot.policies.factory import get_policy_class, make_policy_config

    from rewact_ros.policy.processor_rewact import make_rewact_pre_post_processors

    if str(SITE) not in sys.path:
        sys.path.append(str(SITE))
    register_third_party_plugins()
    config = make_policy_config(
        "flowing",
        device="cpu",
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
    )
    folder = tmp_path_factory.mktemp("flowing") / "policy"
    policy = get_policy_class("flowing")(config)
    save_policy(folder, policy, *make_rewact_pre_post_processors(config, {}))
    return folder


def _drive(engine, delay_s, sends=True, gap=6, chunks=12):
    """Chunks of a drive, one every `gap` steps, and how many turned away from the last one."""
    torch.manual_seed(1)
    engine.reset()
    engine.delay_s, sent = delay_s, []
    for k in range(chunks):
        seen = {"observation.state": np.zeros(JOINTS, np.float32)}
        sent.append(engine.infer(seen, k * gap / RATE_HZ).actions)
        if sends:
            engine.drives()
    jumps = [abs(b[0] - a[gap]).max() for a, b in pairwise(sent)]
    return sent, sum(jump > 0.5 for jump in jumps)


def test_a_slow_policys_next_chunk_goes_on_from_the_one_that_moves_the_robot(flowing):
    engine = TorchEngine(load_policy(flowing, "cpu"), rate_hz=RATE_HZ)

    _, alone = _drive(engine, 0.0)
    assert alone >= 3 and engine.guided_steps == 0
    _, guided = _drive(engine, 0.3)
    assert guided == 0 and engine.guided_steps == 6


def test_only_a_chunk_that_was_sent_counts_as_moving_the_robot(flowing):
    engine = TorchEngine(load_policy(flowing, "cpu"), rate_hz=RATE_HZ)

    _drive(engine, 0.3, sends=False)
    assert engine.guided_steps == 0


@pytest.mark.parametrize(
    ("gap_s", "why"),
    [(1.0, "its last step has passed"), (-0.1, "time went back")],
)
def test_what_is_no_rest_of_a_chunk_guides_nothing(flowing, gap_s, why):
    engine = TorchEngine(load_policy(flowing, "cpu"), rate_hz=RATE_HZ)
    seen = {"observation.state": np.zeros(JOINTS, np.float32)}
    engine.delay_s = 0.3
    for stamp_s in (10.0, 10.0 + gap_s):
        engine.infer(seen, stamp_s)
        engine.drives()
    assert engine.guided_steps == 0, why


def test_after_somebody_else_moved_the_robot_nothing_is_left_to_go_on_from(flowing):
    engine = TorchEngine(load_policy(flowing, "cpu"), rate_hz=RATE_HZ)
    seen = {"observation.state": np.zeros(JOINTS, np.float32)}
    engine.delay_s = 0.3
    engine.infer(seen, 0.0)
    engine.drives()
    engine.reset()
    engine.infer(seen, 0.3)
    assert engine.guided_steps == 0


def test_the_rest_of_a_chunk_begins_at_the_observations_time_and_not_at_a_step(flowing):
    real_time = load_policy(flowing, "cpu").real_time
    real_time.begin(0.0, 0.3, RATE_HZ)
    real_time.keep(torch.arange(20.0).reshape(1, 20, 1))
    real_time.drives()
    real_time.begin(0.31, 0.3, RATE_HZ)  # a camera that keeps another rate

    rest = real_time.given["prev_chunk_left_over"][0, :, 0].tolist()
    assert rest == pytest.approx([6.2 + k for k in range(13)], abs=1e-4)
    assert real_time.given["inference_delay"] == 6
