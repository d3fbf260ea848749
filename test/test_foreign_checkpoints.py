"""Checkpoints of strangers: nothing that they name is run, nothing odd in them is believed."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import write_policy
from safetensors.torch import load_file, save_file

from rewact_ros.policy.checkpoint import CheckpointError, load_policy
from rewact_ros.policy.checkpoint_files import open_folder
from rewact_ros.policy.configuration_rewact import RewACTConfig
from rewact_ros.policy.scaling import action_line, check_alike, input_scalings

PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"
STATE_FILES = {
    PRE: "policy_preprocessor_step_3_normalizer_processor.safetensors",
    POST: "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
}


@pytest.fixture
def folder(tiny_policy, tmp_path):
    return shutil.copytree(tiny_policy, tmp_path / "copy")


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that tells when it is imported or its class is called."""
    (tmp_path / "trap_step.py").write_text(
        "import builtins\nbuiltins.trapped = 'imported'\n"
        "class Step:\n    def __init__(self, **k): builtins.trapped = 'called'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trap_step", raising=False)
    monkeypatch.setattr("builtins.trapped", "", raising=False)
    import builtins

    yield lambda: builtins.trapped
    assert not builtins.trapped


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def step(**entries):
    return lambda content: content["steps"].insert(0, entries)


def setting(name, key, value):
    def change(content):
        (found,) = (s for s in content["steps"] if s["registry_name"] == name)
        found["config"][key] = value

    return change


HOSTILE_STEPS = {
    "a class": (step(**{"class": "trap_step.Step", "config": {}}), "class.*trap_step"),
    "a class beside a name": (
        step(**{"registry_name": "to_batch_processor", "class": "trap_step.Step"}),
        "class.*imported",
    ),
    "a class that is a function": (step(**{"class": "os.system", "config": {}}), "class"),
    "a step that reads the Hub": (
        step(registry_name="action_tokenizer_processor", config={"tokenizer_name": "evil/repo"}),
        "registry_name: expected one of.*action_tokenizer_processor",
    ),
    "a step that loads a model": (
        step(registry_name="reward_classifier_processor", config={"pretrained_path": "evil/repo"}),
        "registry_name",
    ),
    "no name at all": (step(config={}), "registry_name"),
    "a name that is no text": (step(registry_name=["to_batch_processor"]), "registry_name"),
    "a setting that no stock step has": (
        step(registry_name="device_processor", config={"device": "cpu", "repo_id": "evil/repo"}),
        "repo_id",
    ),
    "a pipeline in a setting": (
        step(
            registry_name="rename_observations_processor",
            config={"rename_map": {"a": {"class": "trap_step.Step"}}},
        ),
        "rename_map",
    ),
    "another key of a step": (step(registry_name="to_batch_processor", module="x"), "module"),
    "another key of the file": (lambda c: c.update(imports=["trap_step"]), "imports"),
    "a state that lies elsewhere": (
        step(registry_name="normalizer_processor", config={}, state_file="../x.safetensors"),
        "state_file",
    ),
    "a state with an absolute path": (
        step(registry_name="normalizer_processor", config={}, state_file="/etc/x.safetensors"),
        "state_file",
    ),
    "a state that is a pickle": (
        step(registry_name="normalizer_processor", config={}, state_file="state.pt"),
        "state_file",
    ),
    "a state that is missing": (
        step(registry_name="normalizer_processor", config={}, state_file="no.safetensors"),
        "state_file",
    ),
    "no steps": (lambda c: c.update(steps=[]), "steps"),
    "steps that are no list": (lambda c: c.update(steps={"class": "trap_step.Step"}), "steps"),
    "a step that is a text": (lambda c: c["steps"].insert(0, "trap_step.Step"), "expected a step"),
}


@pytest.mark.parametrize("file", [PRE, POST])
@pytest.mark.parametrize("kind", HOSTILE_STEPS)
def test_a_step_that_is_not_lerobots_own_is_refused_and_nothing_is_imported(
    folder, trap, file, kind
):
    change, words = HOSTILE_STEPS[kind]
    edit(folder / file, change)
    with pytest.raises(CheckpointError, match=f"{file}.*{words}"):
        load_policy(folder, "cpu")
    assert not trap() and "trap_step" not in sys.modules


@pytest.mark.parametrize("file", ["config.json", PRE, POST, "contract.json"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "given twice"),
        ('{"steps": NaN}', "no number"),
        ('{"a": 1e999}', "too large a number"),
        ('{"a":' * 40 + "1" + "}" * 40, "too many levels"),
        ('{"a":' * 90_000 + "1" + "}" * 90_000, "too many levels"),
        ('{"a": "' + "x" * 5_000_000 + '"}', "at most"),
        ('{"a": ' + "1" * 5000 + "}", r"beyond ±2\^63"),
        ("\ufeff{}", "not valid JSON"),
        ("[]", "expected a JSON object"),
    ],
    ids=["doubled", "nan", "overflow", "deep", "very deep", "large", "digits", "bom", "list"],
)
def test_json_of_two_meanings_or_without_bounds_is_refused(folder, file, text, words):
    (folder / file).write_text(text)
    with pytest.raises(CheckpointError, match=f"{file}.*{words}"):
        load_policy(folder, "cpu")


HUGE = {
    "dim_model": 1_000_000_000,
    "n_encoder_layers": 1_000_000,
    "n_decoder_layers": 10**9,
    "dim_feedforward": 10**9,
    "chunk_size": 501,
    "n_action_steps": 0,
    "n_heads": 0,
    "n_obs_steps": 10**6,
    "num_value_bins": 10**9,
    "image_size": [100_000, 100_000],
    "latent_dim": -1,
    "dropout": 7.0,
    "vision_backbone": "resnet",
    "feedforward_activation": "system",
    "n_action_parts": {"arm": 7},
    "use_peft": True,
    "normalization_mapping": {"STATE": "MEAN_STD"},
    "input_features": {"observation.state": {"type": "STATE", "shape": [10**9]}},
    "output_features": {"action": {"type": "ACTION", "shape": [7, 10**9]}},
}


@pytest.mark.parametrize("name", HUGE)
def test_a_setting_out_of_bounds_is_refused_before_anything_is_built(folder, name, monkeypatch):
    monkeypatch.setattr("rewact_ros.policy.open_rewact.RewACTPolicy", None)
    edit(folder / "config.json", lambda c: c.update({name: HUGE[name]}))
    with pytest.raises(CheckpointError, match=f"config.json: .*{name}") as told:
        load_policy(folder, "cpu")
    assert ";" in str(told.value) or "expected" in str(told.value)


def test_a_large_network_is_compared_with_the_weights_before_it_is_built(folder):
    sizes = {"dim_model": 4096, "dim_feedforward": 32_768, "n_encoder_layers": 48}
    edit(folder / "config.json", lambda c: c.update(sizes))
    with pytest.raises(CheckpointError, match="do not fit config.json"):
        load_policy(folder, "cpu")  # 80 GB, had it been built


def test_pictures_that_would_fill_the_memory_are_refused(folder):
    edit(folder / "config.json", lambda c: c.update(image_size=[4096, 4096]))
    with pytest.raises(CheckpointError, match="image_size.*GB"):
        load_policy(folder, "cpu")


def test_a_field_of_another_version_is_named_with_a_remedy_unless_it_is_off(folder):
    edit(folder / "config.json", lambda c: c.update(use_relative_actions=False, compile=None))
    load_policy(folder, "cpu")
    edit(folder / "config.json", lambda c: c.update(use_relative_actions=True))
    with pytest.raises(CheckpointError, match=r"use_relative_actions: .*version.*take the field"):
        load_policy(folder, "cpu")
    edit(folder / "config.json", lambda c: c.pop("use_relative_actions"))
    edit(folder / "config.json", lambda c: c.pop("n_heads"))
    with pytest.raises(CheckpointError, match=r"missing n_heads: .*copy the whole file"):
        load_policy(folder, "cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(image_size=[0, 0]), r"image_size: expected \(height, width\) of at"),
        (lambda c: c.update(value_max=-1), "value_min, value_max: expected min < max, got 0.0, -1"),
        (lambda c: c.update(optimizer_lr="fast"), "`optimizer_lr`: Couldn't parse 'fast'"),
        (
            lambda c: c["normalization_mapping"].update(STATE=["MEAN_STD"]),
            r"normalization_mapping: expected one of .*\['MEAN_STD'\]",
        ),
        (lambda c: c["normalization_mapping"].update(ENV="FOO"), "expected one of .*'ENV': 'FOO'"),
        (
            lambda c: c["input_features"]["observation.state"].update(type=["STATE"]),
            r"observation\.state: type: expected one of .*\['STATE'\]",
        ),
        (
            lambda c: c["input_features"].update(x={"type": "REWARD", "shape": [1]}),
            "normalization_mapping: missing REWARD, the type of x",
        ),
    ],
)
def test_a_value_of_an_odd_kind_is_refused_with_its_reason(folder, change, words):
    edit(folder / "config.json", change)
    with pytest.raises(CheckpointError, match=words) as error:
        load_policy(folder, "cpu")
    assert "instantiate" not in str(error.value) and "\n" not in str(error.value)


def test_what_lerobot_would_download_or_upload_is_dropped(folder):
    named = {
        "pretrained_backbone_weights": "ResNet18_Weights.IMAGENET1K_V1",
        "pretrained_path": "evil/repo",
        "repo_id": "evil/repo",
        "push_to_hub": True,
    }
    edit(folder / "config.json", lambda c: c.update(named))
    config = load_policy(folder, "cpu").config
    assert not any(getattr(config, name) for name in named)


def spoil(folder, file, name, index, value):
    tensors = load_file(folder / STATE_FILES[file])
    if value is None:
        tensors.pop(name)
    else:
        tensors[name][index] = value
    save_file(tensors, folder / STATE_FILES[file])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, None])
@pytest.mark.parametrize(("file", "key"), [(PRE, "observation.state"), (POST, "action")])
def test_statistics_that_no_data_set_has_are_refused_by_name(folder, file, key, value):
    spoil(folder, file, f"{key}.std", 2, value)
    words = "missing std" if value is None else r"std\[2\]: expected"
    with pytest.raises(CheckpointError, match=rf"{key}\.?:? ?{words}|{key}\.{words}"):
        load_policy(folder, "cpu")


ODD_TENSORS = {
    "a column": lambda value: value[:, None].contiguous(),
    "a table": lambda value: value.expand(7, 7).contiguous(),
    "one number": lambda value: value[0].clone(),
    "complex": lambda value: value.to(torch.complex64),
    "booleans": lambda value: value > 0,
}


@pytest.mark.parametrize("kind", ODD_TENSORS)
@pytest.mark.parametrize(("file", "key"), [(PRE, "observation.state"), (POST, "action")])
def test_statistics_of_another_shape_or_kind_are_refused(folder, file, key, kind):
    """A column of 7 would make a batch of 7 of one observation."""
    tensors = load_file(folder / STATE_FILES[file])
    tensors[f"{key}.mean"] = ODD_TENSORS[kind](tensors[f"{key}.mean"])
    save_file(tensors, folder / STATE_FILES[file])
    with pytest.raises(CheckpointError, match=rf"{key}\.mean: expected 7 numbers, got \d+ as \w+"):
        load_policy(folder, "cpu")


def test_statistics_that_are_infinite_in_float32_are_refused(folder):
    tensors = load_file(folder / STATE_FILES[POST])
    tensors["action.std"] = tensors["action.std"].double() * 1e300
    save_file(tensors, folder / STATE_FILES[POST])
    with pytest.raises(CheckpointError, match=r"action\.std\[0\]: expected a finite number of flo"):
        load_policy(folder, "cpu")


MODES = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}


def in_mode(folder, mode, low, high):
    """A copy of a checkpoint whose actions and state are normalised in another mode."""
    modes = {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    edit(folder / "config.json", lambda c: c.update(normalization_mapping=modes))
    for file, key in ((PRE, "observation.state"), (POST, "action")):
        ranges = {f"{key}.{MODES[mode][0]}": low, f"{key}.{MODES[mode][1]}": high}
        save_file({k: v.clone() for k, v in ranges.items()}, folder / STATE_FILES[file])
        name = "normalizer_processor" if file == PRE else "unnormalizer_processor"
        edit(folder / file, setting(name, "norm_map", modes))
    return folder


@pytest.mark.parametrize("mode", MODES)
def test_ranges_upside_down_are_refused_in_every_mode(folder, mode):
    low, high = -torch.ones(7), torch.ones(7)
    load_policy(in_mode(folder, mode, low, high), "cpu")
    high[3] = -1.1
    with pytest.raises(CheckpointError, match=rf"{MODES[mode][1]}\[3\]: expected at least"):
        load_policy(in_mode(folder, mode, low, high), "cpu")


@pytest.mark.parametrize("mode", ["MEAN_STD", *MODES])
@pytest.mark.parametrize("spread", [0.0, 2e-8])
def test_a_joint_that_never_moved_is_next_to_what_training_saw(folder, mode, spread):
    """LeRobot divides by 1e-8 there: a milliradian of noise would be a hundred thousand."""
    if mode == "MEAN_STD":
        spoil(folder, PRE, "observation.state.std", 2, spread)
        spoil(folder, PRE, "observation.state.mean", 2, 0.3)
        spoil(folder, POST, "action.std", 2, 0.0)
        spoil(folder, POST, "action.mean", 2, 0.3)
        seen = 0.0
    else:
        low, high = torch.full((7,), -1.0), torch.ones(7)
        low[2], high[2] = 0.3, 0.3 + spread
        in_mode(folder, mode, low, high)
        seen = -1.0
    loaded = load_policy(folder, "cpu")
    scaling = input_scalings(loaded)["observation.state"]
    for joint in (0.3, 0.301):
        value = (joint - float(scaling.centre[2])) * float(scaling.factor[2])
        assert value == pytest.approx(seen, abs=0.01)
    offset, factor = action_line(loaded)
    assert float(offset[2]) == pytest.approx(0.3, abs=1e-6)
    assert abs(float(factor[2])) < 1e-6


def test_a_processor_that_scales_otherwise_than_the_configuration_says_is_refused(folder):
    whole = (folder / POST).read_text()
    for change, words in (
        (lambda c: c["steps"].pop(0), "expected one unnormalizer_processor"),
        (lambda c: c["steps"][0].pop("state_file"), "missing mean, std"),
        (lambda c: c["steps"][0]["config"].update(norm_map={"ACTION": "IDENTITY"}), "norm_map"),
        (lambda c: c["steps"][0]["config"].update(features={}), "features"),
    ):
        (folder / POST).write_text(whole)
        edit(folder / POST, change)
        with pytest.raises(CheckpointError, match=words):
            load_policy(folder, "cpu")


# -- folders ---------------------------------------------------------------------------------


def link_out(folder, outside):
    (folder / "model.safetensors").rename(outside)
    (folder / "model.safetensors").symlink_to(outside)


ODD_FILES = {
    "weights that are a link": (link_out, "a link"),
    "a link beside them": (lambda folder, _: (folder / "x").symlink_to("/etc/passwd"), "a link"),
    "a link inside": (lambda folder, _: (folder / "x").symlink_to("config.json"), "a link"),
    "a folder that is a link": (lambda folder, _: (folder / "x").symlink_to("/etc"), "a link"),
    "a loop": (lambda folder, _: (folder / "x").symlink_to("."), "a link"),
    "a pipe": (lambda folder, _: os.mkfifo(folder / "x.json"), "neither a file"),
    "a name with an escape": (lambda folder, _: (folder / "x\x1b[2J").touch(), "odd name"),
    "many folders": (lambda folder, _: (folder / "a/b/c/d/e/f").mkdir(parents=True), "deep"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_a_folder_with_anything_but_files_is_refused(folder, tmp_path, kind):
    make, word = ODD_FILES[kind]
    make(folder, tmp_path / "outside.safetensors")
    with pytest.raises(CheckpointError, match=word):
        load_policy(folder, "cpu")


def test_the_digest_is_that_of_sha256sums_own_list_and_covers_every_file(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "ä note.txt").write_text("one")
    listing = subprocess.run(
        "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum",
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    first = open_folder(folder).sha256
    assert first == listing.stdout.split()[0]
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert open_folder(folder).sha256 != first, file
        file.write_bytes(content)
    (folder / "another").touch()
    assert open_folder(folder).sha256 != first


def test_files_that_change_after_they_were_read_change_nothing(folder, vx300s, tmp_path):
    before = load_policy(folder, "cpu")
    files = open_folder(folder)
    shutil.rmtree(folder)
    write_policy(vx300s, folder, dim_feedforward=32)
    loaded = load_policy(files, "cpu")
    assert (loaded.version, loaded.sha256) == (before.version, before.sha256)
    theirs = before.policy.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in loaded.policy.state_dict().items())
    assert load_policy(folder, "cpu").version != before.version


@pytest.mark.parametrize(
    "given", ["run", "run/checkpoints", "run/checkpoints/last", "run/checkpoints/000100"]
)
def test_a_folder_around_the_checkpoint_is_answered_with_the_right_one(folder, tmp_path, given):
    numbered = tmp_path / "run" / "checkpoints" / "000100"
    numbered.mkdir(parents=True)
    folder.rename(numbered / "pretrained_model")
    (numbered.parent / "last").symlink_to("000100")
    with pytest.raises(CheckpointError, match=r"give .*pretrained_model, which has it") as told:
        load_policy(tmp_path / given, "cpu")
    meant = str(told.value).partition("give ")[2].partition(",")[0]
    assert load_policy(meant, "cpu").version


def test_other_things_than_a_checkpoint_folder_are_answered_with_what_to_give(folder):
    with pytest.raises(CheckpointError, match="a file; give the folder"):
        load_policy(folder / "model.safetensors", "cpu")
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    )
    with pytest.raises(CheckpointError, match="git lfs pull"):
        load_policy(folder, "cpu")


# -- beside a running policy -----------------------------------------------------------------


def with_line(folder, tmp_path, name, factor=1.0, shift=0.0, file=POST, key="action"):
    copy = shutil.copytree(folder, tmp_path / name)
    tensors = load_file(copy / STATE_FILES[file])
    tensors[f"{key}.std"] = tensors[f"{key}.std"].clone()
    tensors[f"{key}.std"][4] *= factor
    tensors[f"{key}.mean"] = tensors[f"{key}.mean"].clone()
    tensors[f"{key}.mean"][4] += shift
    save_file(tensors, copy / STATE_FILES[file])
    return load_policy(copy, "cpu")


@pytest.mark.parametrize("key", ["action", "observation.state"])
@pytest.mark.parametrize(
    ("factor", "shift", "word"),
    [(50.0, 0.0, "spread"), (0.02, 0.0, "spread"), (1.0, -10.0, "centre")],
)
def test_numbers_scaled_far_otherwise_than_the_running_policys_are_refused(
    folder, tmp_path, vx300s, key, factor, shift, word
):
    running, file = load_policy(folder, "cpu"), POST if key == "action" else PRE
    check_alike(with_line(folder, tmp_path, "near", 2.0, 0.1, file, key), running, vx300s)
    new = with_line(folder, tmp_path, "far", factor, shift, file, key)
    joint = (vx300s.action_names if key == "action" else vx300s.state_names)[4]
    with pytest.raises(CheckpointError, match=f"{word} of {joint}.*running policy's"):
        check_alike(new, running, vx300s)


@pytest.mark.parametrize("mode", MODES)
def test_ranges_are_compared_in_every_mode(folder, tmp_path, vx300s, mode):
    home, few = torch.tensor(vx300s.reset.pose).float(), 0.1
    running = load_policy(folder, "cpu")
    near = in_mode(shutil.copytree(folder, tmp_path / "near"), mode, home - few, home + few)
    with pytest.raises(CheckpointError, match="observation.state"):
        check_alike(load_policy(near, "cpu"), running, vx300s)  # its state had a deviation of 1
    spoil(folder, PRE, "observation.state.std", slice(None), few)
    running = load_policy(folder, "cpu")
    check_alike(load_policy(near, "cpu"), running, vx300s)
    far = in_mode(shutil.copytree(folder, tmp_path / "far"), mode, home - 50 * few, home + few)
    with pytest.raises(CheckpointError, match="action: spread"):
        check_alike(load_policy(far, "cpu"), running, vx300s)


def test_stock_configurations_are_within_the_bounds(tmp_path, vx300s):
    """LeRobot's own defaults for ACT, which the public packages train with."""
    stock = {"dim_model": 512, "n_heads": 8, "dim_feedforward": 3200, "n_encoder_layers": 4}
    folder = write_policy(
        vx300s, tmp_path / "stock", chunk_size=100, n_action_steps=100, use_vae=True, **stock
    )
    assert isinstance(load_policy(folder, "cpu").config, RewACTConfig)
