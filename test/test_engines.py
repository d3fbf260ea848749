"""Every engine gives what torch gives, or torch serves and says why."""

import dataclasses
import importlib.util
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from conftest import ROOT, SHARED_DATA
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from test_policy import ACTION, CAMERA, STATE, make_config
from torchvision.ops.misc import FrozenBatchNorm2d

from rewact_ros.policy import RewACTPolicy, make_rewact_pre_post_processors
from rewact_ros.policy.checked_engine import REAL_OBSERVATIONS, TOLERANCES, CheckedEngine
from rewact_ros.policy.checkpoint import load_policy, save_policy
from rewact_ros.policy.checkpoint_files import open_folder
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.policy.engines import load_engine
from rewact_ros.policy.export import export_file
from rewact_ros.policy.runtimes import EngineError, ServedTorchEngine, openvino_computes
from rewact_ros.policy.serving import ServingNetwork

sys.path.append(str(ROOT / "benchmarks"))
from engines_cases import frames_of

RATE_HZ = 10.0
WRIST = "observation.images.wrist"
RUNTIMES = [
    pytest.param(name, marks=pytest.mark.skipif(not importlib.util.find_spec(name), reason=name))
    for name in ("onnxruntime", "openvino")
]
SERVED = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("torch", "bf16")]
SIZES = {STATE: 5, ACTION: 3}
MEAN_STD, MIN_MAX = NormalizationMode.MEAN_STD, NormalizationMode.MIN_MAX
POLICIES = {
    "sigmoid": {},
    "distributional": {"reward_head": "distributional", "num_value_bins": 11},
    "no reward": {"reward_head": "none", "use_vae": True},
    "history": {"n_obs_steps": 3, "reward_head": "distributional"},
    "eyes": {"reward_reads": "images", "n_obs_steps": 2, "reward_head": "distributional"},
    "parts": {"action_parts": {"arm": 2, "hand": 1}, "state_skip": True, "n_decoder_layers": 2},
    "resized": {"image_size": (16, 24), "pre_norm": True, "n_encoder_layers": 2},
    "no encoder": {"n_encoder_layers": 0, "feedforward_activation": "gelu"},
    "resnet": {
        "reward_head": "distributional",
        "vision_backbone": "resnet18",
        "image_size": (40, 40),
        "normalization_mapping": {"VISUAL": MEAN_STD, "STATE": MIN_MAX, "ACTION": MIN_MAX},
    },
}


def save(folder, wrist: tuple[int, int] = (32, 32), seed: int = 0, **settings):
    """A checkpoint of two cameras with weights, statistics and batch normalisation at random."""
    config = make_config(**settings)
    config.input_features[WRIST] = PolicyFeature(FeatureType.VISUAL, (3, *wrist))
    torch.manual_seed(seed)
    policy = RewACTPolicy(config).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        for module in policy.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.8, 1.2)
                module.weight.uniform_(0.5, 0.9)
    stats = {}
    for key, feature in {**config.input_features, **config.output_features}.items():
        shape = (3, 1, 1) if feature.type is FeatureType.VISUAL else feature.shape
        mean, std = torch.rand(shape), 0.2 + torch.rand(shape)
        stats[key] = {"mean": mean, "std": std, "min": mean - std, "max": mean + std}
    processors = make_rewact_pre_post_processors(config, stats)
    save_policy(folder, policy, *processors)
    return folder


def infer_all(engine, frames: list[dict[str, np.ndarray]]) -> list:
    engine.reset()
    return [engine.infer(frame, k / RATE_HZ) for k, frame in enumerate(frames)]


def assert_close(predictions, expected, atol: float) -> None:
    for ours, theirs in zip(predictions, expected, strict=True):
        for field in dataclasses.fields(theirs):
            got, want = getattr(ours, field.name), getattr(theirs, field.name)
            assert (got is None) == (want is None), field.name
            if want is not None:
                np.testing.assert_allclose(got, want, atol=atol, rtol=0, err_msg=field.name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Gives a checkpoint by its name: one of POLICIES, or a folder; it is made once."""
    made = {}
    root = tmp_path_factory.mktemp("checkpoints")

    def get(name):
        if name not in made and name in POLICIES:
            settings = POLICIES[name]
            wrist = (32, 32) if settings.get("image_size") else (24, 40)
            made[name] = load_policy(save(root / name, wrist, **settings), "cpu")
        elif name not in made:
            skip = shutil.ignore_patterns("export")
            made[name] = load_policy(shutil.copytree(name, root / name.name, ignore=skip), "cpu")
        return made[name]

    return get


@pytest.mark.parametrize("name", POLICIES)
def test_the_served_network_gives_what_policy_and_processors_give(name, checkpoint):
    loaded = checkpoint(name)
    frames = frames_of(loaded, 4)
    served = ServedTorchEngine(loaded, "fp32", None, RATE_HZ)
    # A pixel that lies half-way between two levels may be rounded to the other one.
    atol = 1e-2 if loaded.config.image_size else 1e-5
    expected = infer_all(TorchEngine(loaded, None, RATE_HZ), frames)
    assert_close(infer_all(served, frames), expected, atol)


@pytest.mark.parametrize("engine", RUNTIMES)
@pytest.mark.parametrize("name", ["history", "no reward", "eyes", "parts", "resnet"])
def test_an_exported_engine_serves_once_it_has_agreed_on_real_observations(
    engine, name, checkpoint
):
    loaded = checkpoint(name)
    checked = load_engine(loaded, engine, threads=1, rate_hz=RATE_HZ)
    checked.warm_up(runs=1)
    frames = frames_of(loaded, REAL_OBSERVATIONS + 2)
    expected = infer_all(TorchEngine(loaded, None, RATE_HZ), frames)
    predictions = infer_all(checked, frames)
    # While it is being checked, what is given out is torch's, bit for bit.
    np.testing.assert_array_equal(predictions[0].actions, expected[0].actions)
    assert not checked.fell_back and engine in checked.description
    assert "within actions" in checked.description
    assert_close(predictions, expected, 2e-3)


@pytest.fixture(scope="module")
def simulated():
    """Frames of the simulated arm on its way to the cube."""
    from rewact_ros.sim.pick_place.expert import Expert
    from rewact_ros.sim.pick_place.task import PickPlace

    frames = []
    sim = PickPlace()
    try:
        sim.reset(100_000)
        expert = Expert(sim)
        expert.plan()
        for step in range(REAL_OBSERVATIONS + 3):
            frames.append({k: v.copy() for k, v in sim.observe().items()})
            sim.set_command(expert.command(0.4 * step))
            sim.advance(0.4)
    finally:
        sim.close()
    return frames


@pytest.mark.parametrize(("engine", "precision"), SERVED)
def test_the_shipped_policy_is_served_within_the_stated_tolerance(
    engine, precision, simulated, checkpoint
):
    loaded = checkpoint(ROOT / "models" / "vx300s_pick_place")
    assert_served(loaded, engine, precision, simulated)


@pytest.mark.parametrize(("engine", "precision"), SERVED)
def test_the_shipped_humanoid_policy_is_served_within_the_stated_tolerance(
    engine, precision, checkpoint
):
    loaded = checkpoint(ROOT / "models" / "g1_bottle")
    assert_served(loaded, engine, precision, frames_of(loaded, REAL_OBSERVATIONS + 1))


@pytest.fixture(scope="module")
def two_large_cameras(tmp_path_factory):
    """A ResNet on two cameras of 480x640, not resized, with a chunk of 100."""
    config = make_config(
        vision_backbone="resnet18",
        reward_head="distributional",
        chunk_size=100,
        n_action_steps=100,
        dim_model=64,
        normalization_mapping=dict.fromkeys(("VISUAL", "STATE", "ACTION"), MEAN_STD),
    )
    stats = {key: {"mean": torch.zeros(n), "std": torch.ones(n)} for key, n in SIZES.items()}
    for camera in (CAMERA, WRIST):
        config.input_features[camera] = PolicyFeature(FeatureType.VISUAL, (3, 480, 640))
        stats[camera] = {"mean": torch.full((3, 1, 1), 0.45), "std": torch.full((3, 1, 1), 0.22)}
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("large") / "policy"
    policy = RewACTPolicy(config).eval()
    save_policy(folder, policy, *make_rewact_pre_post_processors(config, stats))
    loaded = load_policy(folder, "cpu")
    frames = frames_of(loaded, 2)
    return loaded, frames, infer_all(TorchEngine(loaded), frames)


@pytest.mark.parametrize(("engine", "precision"), SERVED)
def test_two_large_cameras_are_served_within_the_stated_tolerance(
    engine, precision, two_large_cameras
):
    loaded, frames, expected = two_large_cameras
    need(engine, precision)
    served = infer_all(load_engine(loaded, engine, precision)._fast, frames)
    for ours, theirs in zip(served, expected, strict=True):
        assert_within(ours, theirs, loaded, precision)


@pytest.mark.skipif(not (SHARED_DATA / "upstream_rewact_ckpt").exists(), reason="not here")
@pytest.mark.parametrize(("engine", "precision"), SERVED)
def test_a_public_checkpoint_is_served_within_the_stated_tolerance(engine, precision, checkpoint):
    loaded = checkpoint(SHARED_DATA / "upstream_rewact_ckpt")
    assert_served(loaded, engine, precision, frames_of(loaded, REAL_OBSERVATIONS + 1))


def need(engine, precision) -> None:
    """Skip where the engine is not installed or the CPU lacks the precision."""
    if engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine)
    if engine == "openvino" and not openvino_computes(precision):
        pytest.skip(f"no fast {precision} on this CPU")


def assert_served(loaded, engine, precision, frames) -> None:
    need(engine, precision)
    checked = load_engine(loaded, engine, precision)
    assert isinstance(checked, CheckedEngine)
    checked.warm_up(runs=1)
    got = infer_all(checked, frames)[-1]
    assert not checked.fell_back, checked.description
    assert_within(got, TorchEngine(loaded).infer(frames[-1]), loaded, precision)


def assert_within(got, expected, loaded, precision) -> None:
    allowed = TOLERANCES[precision]
    scale = loaded.postprocessor(torch.ones(1, got.actions.shape[1]))
    scale = (scale - loaded.postprocessor(torch.zeros_like(scale)))[0].numpy()
    assert np.abs((got.actions - expected.actions) / scale).max() <= allowed.actions
    assert abs(got.reward - expected.reward) <= allowed.reward
    size = np.sqrt(np.square(expected.features).mean())
    assert np.abs(got.features - expected.features).max() <= allowed.features * size


@pytest.fixture
def policy(tmp_path):
    pytest.importorskip("onnxruntime")
    return load_policy(save(tmp_path / "policy"), "cpu")


def serve(loaded) -> tuple[CheckedEngine, list[str]]:
    """The ONNX Runtime engine after its warm-up, and what it reported."""
    reports: list[str] = []
    engine = load_engine(loaded, "onnxruntime", rate_hz=RATE_HZ, report=reports.append)
    engine.warm_up()
    return engine, reports


def assert_torch_serves(engine, loaded) -> None:
    frames = frames_of(loaded, 3)
    for ours, theirs in zip(
        infer_all(engine, frames), infer_all(TorchEngine(loaded), frames), strict=True
    ):
        np.testing.assert_array_equal(ours.actions, theirs.actions)
        assert ours.reward == theirs.reward


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def file_of(loaded):
    return export_file(loaded.sha256)


def test_an_export_is_made_once_and_kept_apart_from_the_checkpoint(policy, cache):
    before = open_folder(policy.path).sha256
    serve(policy)
    made = file_of(policy).stat().st_mtime_ns
    assert [file.name for file in file_of(policy).parent.iterdir()] == [file_of(policy).name]
    assert file_of(policy).is_relative_to(cache)
    assert open_folder(policy.path).sha256 == before
    serve(policy)
    assert file_of(policy).stat().st_mtime_ns == made


def test_an_export_that_lies_in_the_checkpoint_is_not_looked_at(policy, tmp_path):
    other = load_policy(save(tmp_path / "other", seed=1), "cpu")
    serve(other)
    (policy.path / "export").mkdir()
    shutil.copy(file_of(other), policy.path / "export" / file_of(policy).name)
    engine, reports = serve(policy)
    assert not engine.fell_back and not reports


def test_a_cache_that_others_can_write_is_not_used(policy, cache):
    serve(policy)
    made = file_of(policy)
    made.parent.chmod(0o777)
    with pytest.raises(PermissionError, match="others can write"):
        file_of(policy)
    made.write_bytes(b"planted")
    engine, reports = serve(policy)
    assert not engine.fell_back and not reports


def test_other_weights_settings_or_statistics_have_exports_of_their_own(policy, tmp_path):
    statistics = "policy_preprocessor_step_3_normalizer_processor.safetensors"
    other = save(tmp_path / "other", seed=1, reward_loss_weight=3.0)
    names = {file_of(policy).name}
    for file in ("model.safetensors", "config.json", statistics):
        folder = shutil.copytree(policy.path, tmp_path / file)
        shutil.copy(other / file, folder)
        names.add(file_of(load_policy(folder, "cpu")).name)
    assert len(names) == 4


def test_a_cache_that_cannot_be_written_costs_only_time(policy, cache):
    cache.write_text("not a folder")
    engine, reports = serve(policy)
    assert not engine.fell_back and not reports


def test_an_export_that_disagrees_is_dropped_and_torch_serves(policy, tmp_path):
    other = load_policy(save(tmp_path / "other", seed=1), "cpu")
    serve(other)
    serve(policy)
    shutil.copy(file_of(other), file_of(policy))
    engine, reports = serve(policy)
    assert engine.fell_back and len(reports) == 1
    assert "torch fp32 on cpu (instead of onnxruntime" in reports[0]
    assert "differs from torch by actions" in engine.description
    assert_torch_serves(engine, policy)
    assert not file_of(policy).exists()
    assert not serve(policy)[0].fell_back


def test_an_export_that_does_not_load_is_dropped_and_torch_serves(policy):
    serve(policy)
    file_of(policy).write_bytes(b"cut off")
    engine, reports = serve(policy)
    assert isinstance(engine, TorchEngine)
    assert "instead of onnxruntime fp32: " in reports[0]
    assert_torch_serves(engine, policy)
    assert not serve(policy)[1]


def test_an_engine_whose_first_inference_fails_is_replaced_while_the_node_is_configured(policy):
    reports: list[str] = []
    engine = load_engine(policy, "onnxruntime", rate_hz=RATE_HZ, report=reports.append)
    engine._fast._session = None
    engine.warm_up()
    assert engine.fell_back and "instead of onnxruntime" in reports[0]
    assert_torch_serves(engine, policy)


def test_an_engine_that_fails_in_service_is_replaced_within_the_same_inference(policy):
    engine, reports = serve(policy)
    frames = frames_of(policy, REAL_OBSERVATIONS)
    infer_all(engine, frames)
    engine._fast._session = None
    prediction = engine.infer(frames[0])
    assert engine.fell_back and len(reports) == 1
    expected = TorchEngine(policy).infer(frames[0])
    np.testing.assert_array_equal(prediction.actions, expected.actions)


def test_a_signal_is_handled_after_engines_have_come_and_gone(policy):
    pytest.importorskip("openvino")
    script = """
import gc, os, signal, sys
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.engines import load_engine

signal.signal(signal.SIGTERM, lambda *args: print("handled"))
loaded = load_policy(sys.argv[1], "cpu")
engines = [load_engine(loaded, "openvino") for _ in range(2)]
while engines:  # the older one goes first, as when a policy is swapped
    engines.pop(0)
    gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""
    command = [sys.executable, "-c", script, str(policy.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "handled" in done.stdout, done.stderr


def test_processors_that_cannot_be_served_are_named_and_torch_serves(tmp_path, cache):
    pytest.importorskip("onnxruntime")
    loaded = load_policy(save(tmp_path / "policy"), "cpu")
    loaded.preprocessor.steps[0].rename_map = {STATE: "observation.posture"}
    reports: list[str] = []
    engine = load_engine(loaded, "onnxruntime", report=reports.append)
    assert isinstance(engine, TorchEngine)
    assert "preprocessor: renames or drops observation.state" in reports[0]


def test_a_policy_of_another_type_is_named_and_torch_serves(policy, cache):
    pytest.importorskip("onnxruntime")
    other = dataclasses.replace(policy, policy=torch.nn.Identity(), sha256="0" * 64)
    with pytest.raises(ValueError, match="expected a policy of type rewact, got Identity; use"):
        ServingNetwork(other)
    reports: list[str] = []
    assert isinstance(load_engine(other, "onnxruntime", report=reports.append), TorchEngine)
    assert "expected a policy of type rewact, got Identity" in reports[0]


def test_auto_takes_the_fastest_engine_that_is_installed(policy):
    pytest.importorskip("openvino")
    engine = load_engine(policy, "auto")
    engine.warm_up()
    assert "openvino" in engine.description
    assert isinstance(load_engine(policy, "torch"), TorchEngine)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("tensorrt", "fp32", "engine: expected one of auto, torch"),
        ("torch", "int8", "precision: expected one of fp32, bf16, fp16, got 'int8'"),
        ("torch", "fp16", "torch has no fast float16 on a CPU"),
        ("onnxruntime", "bf16", "onnxruntime computes in fp32"),
    ],
)
def test_what_no_machine_like_this_can_run_is_refused(policy, engine, precision, message):
    with pytest.raises(EngineError, match=message):
        load_engine(policy, engine, precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_cuda_graph_without_a_gpu_is_refused(policy):
    with pytest.raises(EngineError, match="expected a CUDA device, found none"):
        load_engine(policy, "torch_cuda_graph", "fp16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["sigmoid", "history", "resnet"])
def test_a_cuda_graph_serves_within_the_stated_tolerance(name, precision, checkpoint):
    loaded = load_policy(checkpoint(name).path, "cuda")
    engine = load_engine(loaded, "torch_cuda_graph", precision, rate_hz=RATE_HZ)
    engine.warm_up()
    frames = frames_of(loaded, REAL_OBSERVATIONS + 3)
    got = infer_all(engine, frames)
    assert not engine.fell_back, engine.description
    # Replayed, the graph must have read the newest observation and none before it.
    expected = infer_all(TorchEngine(loaded, None, RATE_HZ), frames)
    atol = TOLERANCES[precision].actions * 1.2  # statistics of `save`: standard deviations to 1.2
    np.testing.assert_allclose(got[-1].actions, expected[-1].actions, atol=atol, rtol=0)
    assert np.abs(got[-1].actions - got[-2].actions).max() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_is_captured_and_runs_while_another_thread_infers(checkpoint):
    loaded = load_policy(checkpoint("resnet").path, "cuda")
    running = TorchEngine(loaded, None, RATE_HZ)
    frames, done, faults = frames_of(loaded, 4), threading.Event(), []

    def infer() -> None:
        try:
            while not done.is_set():
                infer_all(running, frames)
        except RuntimeError as error:
            faults.append(error)

    thread = threading.Thread(target=infer)
    thread.start()
    try:
        engine = load_engine(loaded, "torch_cuda_graph", "bf16", rate_hz=RATE_HZ)
        engine.warm_up()
        infer_all(engine, frames)
    finally:
        done.set()
        thread.join()
    assert not faults and not engine.fell_back, engine.description


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_that_is_too_small_shows_at_load(checkpoint):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            loaded = load_policy(checkpoint("resnet").path, "cuda")
            load_engine(loaded, "torch_cuda_graph", "bf16", rate_hz=RATE_HZ).warm_up()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
