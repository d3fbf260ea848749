"""Checkpoints survive a round trip bit for bit, and broken or alien ones are refused clearly."""

import json
import shutil
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from lerobot.utils.constants import OBS_IMAGES
from safetensors.torch import load_file, save_file

from rewact_ros.policy import RewACTConfig, RewACTPolicy, make_rewact_pre_post_processors
from rewact_ros.policy.checkpoint import (
    LOADERS,
    CheckpointError,
    export_policy,
    load_policy,
    save_policy,
)
from rewact_ros.policy.checkpoint_config import read_config
from rewact_ros.policy.compatibility import require_rewact
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.policy.policy import Estimate
from rewact_ros.policy.processors import load_processors
from rewact_ros.policy.weights import check_weights, load_tensors

STATE, ACTION, CAMERA = "observation.state", "action", "observation.images.front"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved policy: (folder, policy, preprocessor, postprocessor)."""
    torch.manual_seed(0)
    config = RewACTConfig(
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, (5,)),
            CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 48, 64)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (3,))},
        chunk_size=4,
        n_action_steps=4,
        dim_model=32,
        n_heads=2,
        dim_feedforward=32,
        n_encoder_layers=1,
        n_decoder_layers=1,
        image_size=(32, 32),
        device="cpu",
    )
    policy = RewACTPolicy(config).eval()
    stats = {STATE: _stats(5), ACTION: _stats(3)}
    processors = make_rewact_pre_post_processors(config, stats)
    folder = tmp_path_factory.mktemp("models") / "policy"
    contract = {"hash": "abc", "signature": {"rate_hz": 20.0}}
    version = save_policy(folder, policy, *processors, contract, {"training.json": "{}"})
    return folder, policy, *processors, version


def _stats(width: int) -> dict[str, torch.Tensor]:
    return {"mean": torch.linspace(-1, 1, width), "std": torch.linspace(0.5, 2, width)}


def _observation() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        STATE: rng.normal(size=5).astype(np.float32),
        CAMERA: rng.integers(0, 256, (48, 64, 3), dtype=np.uint8),
    }


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "copy")


def test_round_trip_gives_bit_equal_outputs_and_keeps_contract_and_version(saved):
    folder, policy, preprocessor, postprocessor, version = saved
    loaded = load_policy(folder)
    assert loaded.contract == {"hash": "abc", "signature": {"rate_hz": 20.0}}
    assert loaded.version == version and len(version) == 12
    observation = _observation()
    batch = {
        STATE: torch.from_numpy(observation[STATE])[None],
        CAMERA: torch.from_numpy(observation[CAMERA]).permute(2, 0, 1)[None].float() / 255,
    }
    once = policy.predict(preprocessor(batch))
    again = loaded.policy.predict(loaded.preprocessor(batch))
    assert torch.equal(postprocessor(once.actions), loaded.postprocessor(again.actions))
    assert torch.equal(once.reward.value, again.reward.value)


def test_the_engine_equals_the_processors_path(saved):
    folder, policy, preprocessor, postprocessor, _ = saved
    observation = _observation()
    engine = TorchEngine(load_policy(folder), threads=None)
    engine.warm_up()
    prediction = engine.infer(observation)
    batch = preprocessor(
        {
            STATE: torch.from_numpy(observation[STATE])[None],
            CAMERA: torch.from_numpy(observation[CAMERA]).permute(2, 0, 1)[None].float() / 255,
        }
    )
    estimate = policy.predict(batch)
    actions, reward = estimate.actions, estimate.reward.value
    np.testing.assert_array_equal(prediction.actions, postprocessor(actions)[0].numpy())
    assert prediction.actions.dtype == np.float32 and prediction.reward == float(reward[0])


def test_the_engine_refuses_wrong_inputs_and_outputs_that_are_not_finite(saved):
    engine = TorchEngine(load_policy(saved[0]), threads=None)
    observation = _observation()
    with pytest.raises(KeyError, match=CAMERA):
        engine.infer({STATE: observation[STATE]})
    with pytest.raises(ValueError, match=r"expected shape \(48, 64, 3\) uint8"):
        engine.infer({**observation, CAMERA: observation[CAMERA][:32]})
    with pytest.raises(FloatingPointError, match="non-finite"):
        engine.infer({**observation, STATE: np.full(5, np.nan, np.float32)})


def test_an_absent_folder_or_file_is_named(saved, copy, tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        load_policy(tmp_path / "nowhere")
    (copy / "policy_preprocessor.json").unlink()
    with pytest.raises(CheckpointError, match="missing policy_preprocessor.json"):
        load_policy(copy)


def test_truncated_weights_are_refused(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_policy(copy)


def test_weights_of_other_dimensions_are_refused_with_both_shapes(copy):
    config = json.loads((copy / "config.json").read_text())
    config["input_features"][STATE]["shape"] = [9]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"expected shape \(32, 9\).*got \(32, 5\)"):
        load_policy(copy)


def test_weights_that_are_not_finite_are_refused(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["model.action_head.action.bias"][0] = float("nan")
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.action_head\.action\.bias: NaN"):
        load_policy(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.double() * 1e300, "NaN or infinite weights"),
        (
            lambda w: w.to(torch.float8_e4m3fn),
            "expected numbers of type float32, got float8_e4m3fn",
        ),
        (lambda w: w.to(torch.int8), "expected numbers of type float32, got int8"),
        (lambda w: w > 0, "expected numbers of type float32, got bool"),
        (lambda w: w.to(torch.complex64), "expected numbers of type float32, got complex64"),
    ],
)
def test_weights_of_another_kind_of_number_are_refused(copy, change, words):
    tensors = load_file(copy / "model.safetensors")
    name = "model.action_head.action.bias"
    tensors[name] = tensors[name] + 1
    for kind in (torch.float16, torch.bfloat16, torch.float64):  # another width of the same kind
        save_file({**tensors, name: tensors[name].to(kind)}, copy / "model.safetensors")
        load_policy(copy)
    save_file({**tensors, name: change(tensors[name])}, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"model\.action_head\.action\.bias: {words}"):
        load_policy(copy)


def test_missing_tensors_are_refused(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors.pop("model.action_head.action.bias")
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match="1 missing"):
        load_policy(copy)


@pytest.mark.parametrize(
    "text", ['{"type": "act"}', "[1]", "{", '{"type": "rewact", "dim_modle": 3}']
)
def test_an_alien_configuration_is_refused(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_policy(copy)


@pytest.mark.parametrize("kind", ["no_policy", ["rewact"], {}, 3, None])
def test_another_type_of_policy_is_refused_with_those_that_there_are(copy, kind):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "type": kind}))
    (copy / "model.safetensors").write_bytes(b"")  # the type is asked for first
    with pytest.raises(CheckpointError, match=r"config\.json: type: expected one of rewact, act, "):
        load_policy(copy)


def test_a_type_of_policy_is_a_row_of_the_table(copy, monkeypatch):
    config = json.loads((copy / "config.json").read_text())
    rewact = load_policy(copy, "cpu")
    parts = rewact.policy, rewact.preprocessor, rewact.postprocessor
    (copy / "config.json").write_text(json.dumps({**config, "type": "other"}))
    monkeypatch.setitem(LOADERS, "other", lambda files, device: parts)
    loaded = load_policy(copy, "cpu")
    assert loaded.policy is rewact.policy and loaded.version == rewact.version
    assert np.isfinite(TorchEngine(loaded).infer(_observation()).reward)


@dataclass
class PlainACTConfig(ACTConfig):
    """LeRobot's ACT with the settings that every policy has."""

    image_size: tuple[int, int] | None = None
    reward_head: str = "none"
    value_min: float = 0.0
    value_max: float = 1.0


class PlainACT(ACTPolicy):
    """LeRobot's ACT, which has no reward."""

    config_class, name = PlainACTConfig, "act"

    @torch.no_grad()
    def predict(self, batch):
        images = [batch[key] for key in self.config.image_features]
        seen = []
        hook = self.model.encoder.register_forward_hook(lambda *call: seen.append(call[-1]))
        actions = self.model({**batch, OBS_IMAGES: images})[0]
        hook.remove()
        return Estimate(actions, None, seen[0].mean(0).float())


def open_plain_act(files, device):
    weights = load_tensors(files, "model.safetensors")
    config = read_config(PlainACTConfig, files.json("config.json"), str(files.path), device)
    check_weights(str(files.path), PlainACT(config).state_dict(), weights)
    policy = PlainACT(config)
    policy.load_state_dict(weights)
    return policy.eval(), *load_processors(files, config, device)


def test_another_type_is_a_row_that_runs_and_that_rewacts_tools_refuse(
    saved, tmp_path, monkeypatch
):
    """What CONTRIBUTING says of a policy type, with a checkpoint that LeRobot writes."""
    ours = saved[1].config
    torch.manual_seed(0)
    config = ACTConfig(
        input_features=ours.input_features,
        output_features=ours.output_features,
        **{key: getattr(ours, key) for key in ("chunk_size", "n_action_steps", "dim_model")},
        **{"n_heads": 2, "dim_feedforward": 32, "n_encoder_layers": 1, "device": "cpu"},
        pretrained_backbone_weights=None,
    )
    image = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)}
    stats = {STATE: _stats(5), ACTION: _stats(3), CAMERA: image}
    policy, folder = ACTPolicy(config).eval(), tmp_path / "act"
    save_policy(folder, policy, *make_act_pre_post_processors(config, stats))
    # In place of ours, which opens it as a RewACT without a reward.
    monkeypatch.setitem(LOADERS, "act", open_plain_act)
    loaded = load_policy(folder, "cpu")
    prediction = TorchEngine(loaded).infer(_observation())
    batch = loaded.preprocessor(TorchEngine(loaded)._to_batch(_observation()))
    expected = loaded.postprocessor(policy.predict_action_chunk(batch))[0].numpy()
    np.testing.assert_array_equal(prediction.actions, expected)
    assert prediction.reward is None and np.isfinite(prediction.features).all()
    with pytest.raises(CheckpointError, match="type: training needs rewact, got PlainACT"):
        require_rewact(loaded, "training")


def test_a_type_of_policy_without_some_settings_has_a_reward_hash(copy):
    rewact = load_policy(copy, "cpu")
    settings = vars(rewact.config)
    lesser = {key: value for key, value in settings.items() if key != "pre_norm"}
    hashes = {
        replace(rewact, config=SimpleNamespace(**config)).reward_hash
        for config in (settings, lesser, lesser | {"chunk_size": 3})
    }
    assert rewact.reward_hash in hashes and len(hashes) == 3


def test_a_device_of_another_machine_does_not_stop_this_one(copy):
    for name in ("config.json", "policy_preprocessor.json"):
        text = (copy / name).read_text().replace('"device": "cpu"', '"device": "cuda"')
        (copy / name).write_text(text)
    assert np.isfinite(TorchEngine(load_policy(copy, device="cpu")).infer(_observation()).reward)
    if not torch.cuda.is_available():
        load_policy(copy)
        with pytest.raises(CheckpointError, match="no CUDA device"):
            load_policy(copy, device="cuda")


@pytest.mark.parametrize("device", ["tpu", "", "meta", "cpu:x", "mps"])
def test_a_device_that_no_policy_runs_on_is_refused_by_name(copy, device):
    with pytest.raises(
        CheckpointError, match=f"^device: expected auto, cpu or cuda, got '{device}'"
    ):
        load_policy(copy, device)


def test_saving_over_an_older_checkpoint_replaces_it_whole(saved, copy):
    (copy / "stale.txt").write_text("old")
    save_policy(copy, *saved[1:4])
    assert not (copy / "stale.txt").exists() and not (copy / "contract.json").exists()
    assert load_policy(copy).contract is None
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_lerobot_loads_the_checkpoint_too(saved):
    loaded = RewACTPolicy.from_pretrained(saved[0])
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), saved[1].parameters(), strict=True)
    )


def test_exporting_replaces_the_weights_and_keeps_the_readme(saved, copy):
    (copy / "README.md").write_text("card")
    (copy / "model.safetensors").write_bytes(b"old")
    export_policy(saved[0], copy)
    assert load_policy(copy).version == saved[4] and (copy / "README.md").read_text() == "card"
