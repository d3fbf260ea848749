"""Policies of LeRobot and of its plug-ins: opened with all checks, and run as LeRobot runs them."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

from rewact_ros.policy.checkpoint import CheckpointError, load_policy, save_policy
from rewact_ros.policy.compatibility import require_rewact
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.policy.engines import load_engine

STATE, ACTION, CAMERA = "observation.state", "action", "observation.images.front"
RATE_HZ = 10.0


def vqbet():
    return make_policy_config(
        "vqbet", **features(), device="cpu", pretrained_backbone_weights=None, n_obs_steps=3,
        n_action_pred_token=2, action_chunk_size=4, gpt_n_layer=1, gpt_n_head=2, gpt_hidden_dim=32,
        gpt_output_dim=32, gpt_input_dim=32, vqvae_enc_hidden_dim=16, vqvae_embedding_dim=16,
        crop_shape=(40, 40), spatial_softmax_num_keypoints=4,
    )  # fmt: skip


def diffusion():
    pytest.importorskip("diffusers")
    return make_policy_config(
        "diffusion", **features(), device="cpu", pretrained_backbone_weights=None, n_obs_steps=2,
        horizon=8, n_action_steps=6, down_dims=(16, 32), diffusion_step_embed_dim=16,
        num_train_timesteps=10, crop_shape=(40, 40), spatial_softmax_num_keypoints=4,
    )  # fmt: skip


def features():
    return {
        "input_features": {
            STATE: PolicyFeature(FeatureType.STATE, (5,)),
            CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 48, 64)),
        },
        "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (3,))},
    }


KINDS = {"vqbet": vqbet, "diffusion": diffusion}
CHUNK = {"vqbet": 4, "diffusion": 6}


def statistics():
    image = {name: torch.full((3, 1, 1), x) for name, x in (("mean", 0.5), ("std", 0.25))}
    stats = {CAMERA: image | {"min": torch.zeros(3, 1, 1), "max": torch.ones(3, 1, 1)}}
    for key, width in ((STATE, 5), (ACTION, 3)):
        low = torch.arange(width) - 2.0
        stats[key] = {"min": low, "max": low + 3.0, "mean": low + 1.5, "std": torch.ones(width)}
    return stats


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """(kind, folder): a small untrained policy as lerobot-train writes it."""
    torch.manual_seed(0)
    config = KINDS[request.param]()
    policy = get_policy_class(request.param)(config).eval()
    folder = tmp_path_factory.mktemp("models") / request.param
    save_policy(folder, policy, *make_pre_post_processors(config, dataset_stats=statistics()))
    return request.param, folder


def observations(n=6):
    rng = np.random.default_rng(0)
    return [
        {
            STATE: rng.uniform(-2, 4, 5).astype(np.float32),
            CAMERA: rng.integers(0, 255, (48, 64, 3), np.uint8),
        }
        for _ in range(n)
    ]


def test_it_gives_what_lerobots_own_rollout_gives_at_every_step(saved):
    """Its queue of past observations is filled by ours, which knows the times."""
    kind, folder = saved
    loaded = load_policy(folder, "cpu")
    engine = load_engine(loaded, rate_hz=RATE_HZ, report=pytest.fail)
    assert type(engine) is TorchEngine and engine.description.startswith("torch")
    reference = get_policy_class(kind).from_pretrained(folder, local_files_only=True).eval()
    reference.reset()
    for step, observation in enumerate(observations()):
        reference._queues[ACTION].clear()  # ask anew at each step
        batch = {
            STATE: torch.from_numpy(observation[STATE]),
            CAMERA: torch.from_numpy(observation[CAMERA]).permute(2, 0, 1) / 255.0,
        }
        torch.manual_seed(step)
        expected = loaded.postprocessor(reference.select_action(loaded.preprocessor(batch)))
        torch.manual_seed(step)
        prediction = engine.infer(observation, step / RATE_HZ)
        assert prediction.actions.shape == (CHUNK[kind], 3)
        np.testing.assert_allclose(prediction.actions[0], expected[0].numpy(), atol=1e-5)
        assert prediction.reward is None and prediction.features is None
    assert loaded.config.chunk_size == CHUNK[kind]


def test_what_a_slow_policy_had_no_time_for_is_its_past_all_the_same(saved):
    """Else it would take each observation for an episode's first one, and never see a motion."""
    _, folder = saved
    slow, quick = (load_engine(load_policy(folder, "cpu"), rate_hz=RATE_HZ) for _ in range(2))
    seen = observations(9)
    for step, observation in enumerate(seen):
        torch.manual_seed(step)
        expected = quick.infer(observation, step / RATE_HZ).actions
        if step % 4:  # three of four come while it thinks
            continue
        for missed in range(max(step - quick.memory, step - 3), step):
            if missed >= 0:
                slow.remember(seen[missed], missed / RATE_HZ)
        torch.manual_seed(step)
        np.testing.assert_allclose(
            slow.infer(observation, step / RATE_HZ).actions, expected, atol=1e-5
        )
    assert slow.memory == load_policy(folder, "cpu").config.n_obs_steps - 1 > 0


def test_after_a_reset_nothing_of_the_past_is_left(saved):
    engine = load_engine(load_policy(saved[1], "cpu"), rate_hz=RATE_HZ)

    def first(observation):
        engine.reset()
        torch.manual_seed(1)
        return engine.infer(observation, 0.0).actions

    one, *others = observations()
    fresh = first(one)
    for step, observation in enumerate(others):
        engine.infer(observation, 1.0 + step / RATE_HZ)
    np.testing.assert_array_equal(first(one), fresh)


def test_what_it_is_not_for_is_refused_by_name(saved):
    loaded = load_policy(saved[1], "cpu")
    reports = []
    pytest.importorskip("onnxruntime")
    engine = load_engine(loaded, "onnxruntime", rate_hz=RATE_HZ, report=reports.append)
    assert type(engine) is TorchEngine and "use engine torch in fp32" in reports[0]
    with pytest.raises(CheckpointError, match="training needs rewact"):
        require_rewact(loaded, "training")
    with pytest.raises(ValueError, match="expected the rate of its observations"):
        load_engine(loaded)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", {"n_obs_steps": 99}, "n_obs_steps: expected an integer from 1 to 16"),
        ("config.json", {"crop_shap": 3}, "crop_shap: did you mean crop_shape"),
        ("config.json", {"vision_backbone": "os.system"}, "vision_backbone"),
        ("config.json", {"input_features": {}}, "input_features: expected 1 to"),
        ("policy_preprocessor.json", {"steps": [{"class": "os.system"}]}, "would be imported"),
    ],
)
def test_a_checkpoint_that_was_changed_is_refused(saved, tmp_path, file, change, words):
    copy = shutil.copytree(saved[1], tmp_path / "copy")
    content = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(content | change))
    with pytest.raises(CheckpointError, match=words):
        load_policy(copy, "cpu")


def test_weights_of_another_network_and_missing_files_are_refused(saved, tmp_path):
    copy = shutil.copytree(saved[1], tmp_path / "copy")
    content = json.loads((copy / "config.json").read_text())
    content["input_features"][STATE]["shape"] = [6]
    (copy / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected shape"):
        load_policy(copy, "cpu")
    (copy / "policy_postprocessor.json").unlink()
    with pytest.raises(CheckpointError, match=r"missing policy_postprocessor.json; .* lerobot-"):
        load_policy(copy, "cpu")


# A plug-in, as a user installs one: a distribution whose name begins with lerobot_policy_.
CONFIGURATION = """
from dataclasses import dataclass, field
from lerobot.configs import NormalizationMode
from lerobot.configs.policies import PreTrainedConfig

@PreTrainedConfig.register_subclass("still")
@dataclass
class StillConfig(PreTrainedConfig):
    gain: float = 1.0
    normalization_mapping: dict = field(default_factory=lambda: {
        "VISUAL": NormalizationMode.IDENTITY, "STATE": NormalizationMode.MEAN_STD,
        "ACTION": NormalizationMode.IDENTITY})
    observation_delta_indices = action_delta_indices = reward_delta_indices = None
    def get_optimizer_preset(self): raise NotImplementedError
    def get_scheduler_preset(self): return None
    def validate_features(self): pass
"""
METADATA = "Metadata-Version: 2.1\nName: lerobot_policy_still\nVersion: 1.0\n"
MODELING = """
import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot_policy_still.configuration_still import StillConfig

class StillPolicy(PreTrainedPolicy):
    config_class, name = StillConfig, "still"
    def __init__(self, config, **kwargs):
        super().__init__(config)
        self.config, self.offset = config, torch.nn.Parameter(torch.zeros(3))
        self.reset()
    def reset(self): self.calls = 0
    def get_optim_params(self): return self.parameters()
    def forward(self, batch): raise NotImplementedError
    def predict_action_chunk(self, batch, **kwargs): raise NotImplementedError
    @torch.no_grad()
    def select_action(self, batch, **kwargs):
        self.calls += 1
        return self.config.gain * batch["observation.state"][:, :3] + self.offset + self.calls
"""
MAKE = """
import sys, torch
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config
from lerobot.processor import PolicyProcessorPipeline
from rewact_ros.policy.checkpoint import save_policy
from rewact_ros.policy.processor_rewact import make_rewact_pre_post_processors
config = make_policy_config("still", device="cpu", gain=2.0,
    input_features={"observation.state": PolicyFeature(FeatureType.STATE, (5,))},
    output_features={"action": PolicyFeature(FeatureType.ACTION, (3,))})
stats = {"observation.state": {"mean": torch.zeros(5), "std": torch.ones(5)}}
save_policy(sys.argv[1], get_policy_class("still")(config),
    *make_rewact_pre_post_processors(config, stats))
"""
RUN = """
import sys
import numpy as np
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.engines import load_engine
engine = load_engine(load_policy(sys.argv[1], "cpu"))
seen = {"observation.state": np.arange(5, dtype=np.float32)}
for again in range(2):
    engine.reset()
    for call in (1, 2, 3):
        actions = engine.infer(seen, call / 10).actions
        assert actions.shape == (1, 3)
        assert np.allclose(actions[0], 2.0 * np.arange(3) + call), actions
"""


def test_a_plug_in_that_is_installed_is_opened_and_one_that_is_not_is_named(tmp_path):
    package = tmp_path / "site" / "lerobot_policy_still"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .configuration_still import StillConfig\n")
    (package / "configuration_still.py").write_text(CONFIGURATION)
    (package / "modeling_still.py").write_text(MODELING)
    about = tmp_path / "site" / "lerobot_policy_still-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    folder = tmp_path / "policy"
    for script in (MAKE, RUN):
        code = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n{script}"
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-3000:]
    with pytest.raises(CheckpointError, match=r"type: expected one of rewact, act, .* got still; .*"
                       r"install the plug-in"):  # fmt: skip
        load_policy(folder)
