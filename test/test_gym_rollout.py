"""A policy in any Gymnasium environment: PushT from the registry, and a small one with faults."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature

from rewact_ros.learning.evaluation.env_server import EnvError, flatten
from rewact_ros.learning.evaluation.gym_env import first_observation, make_env
from rewact_ros.learning.evaluation.gym_rollout import evaluate_env
from rewact_ros.learning.evaluation.settings import EnvSettings, as_mapping
from rewact_ros.policy.checkpoint import load_policy, save_policy
from rewact_ros.policy.configuration_rewact import RewACTConfig
from rewact_ros.policy.modeling_rewact import RewACTPolicy
from rewact_ros.policy.processor_rewact import make_rewact_pre_post_processors


def policy_for(folder, cameras: dict[str, int], state: int, actions: int, centre=0.0, **settings):
    """An untrained checkpoint; cameras by key with their edge in px; actions around `centre`."""
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (state,))}
    stats = {"observation.state": {"mean": torch.zeros(state), "std": torch.ones(state)}}
    for key, edge in cameras.items():
        inputs[key] = PolicyFeature(FeatureType.VISUAL, (3, edge, edge))
        stats[key] = {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}
    stats["action"] = {"mean": torch.full((actions,), centre), "std": torch.ones(actions)}
    small = {
        "chunk_size": 4,
        "n_action_steps": 2,
        "vision_backbone": "small_cnn",
        "dim_model": 32,
        "n_heads": 4,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "use_vae": False,
        "device": "cpu",
    }
    torch.manual_seed(0)
    policy = RewACTPolicy(
        RewACTConfig(
            input_features=inputs,
            output_features={"action": PolicyFeature(FeatureType.ACTION, (actions,))},
            **{**small, **settings},
        )
    )
    save_policy(folder, policy, *make_rewact_pre_post_processors(policy.config, stats))
    return folder


@pytest.fixture(scope="module")
def pusht(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "pusht"
    return policy_for(folder, {"observation.image": 96}, state=2, actions=2, centre=256.0)


class TwoCameras(gymnasium.Env):
    """Ends well after five steps; may show a blank first picture, in two ways, or always."""

    metadata = {"render_modes": [], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        blank: str = "",
        tells: bool = True,
        bound: float = 10.0,
        key: str = "is_success",
        seeded: bool = True,
    ):
        camera = gymnasium.spaces.Box(0, 255, (32, 32, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "pixels": gymnasium.spaces.Dict({"top": camera, "wrist": camera}),
                "joints": gymnasium.spaces.Box(-1, 1, (3,)),
            }
        )
        self.action_space = gymnasium.spaces.Box(-bound, bound, (3,))
        self.blank, self.tells, self.resets = blank, tells, 0
        self.key, self.seeded, self.actions, self.joints = key, seeded, [], np.zeros(3)
        self.render_mode = "rgb_array"

    def render(self):
        return np.full((32, 32, 3), 7, np.uint8) + self._observe(False)["pixels"]["wrist"] % 3

    def get_obs(self):
        return self._observe(self.blank in ("reset", "always"))

    def _observe(self, blank):
        picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        top = np.zeros_like(picture) if blank else picture
        return {"pixels": {"top": top, "wrist": picture}, "joints": self.joints}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        self.resets += 1
        if not self.seeded:
            self.joints = np.full(3, float(self.resets))
        blank = self.blank in ("look", "always") or (self.blank == "reset" and self.resets == 1)
        return self._observe(blank), {}

    def step(self, action):
        assert action.shape == (3,) and action.dtype == np.float32
        self.actions.append(action.copy())
        self.count += 1
        done = self.count == 5
        info = {"stage": f"step {self.count}"} | ({self.key: done} if self.tells else {})
        return self._observe(False), float(done), done, False, info


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory):
    cameras = {"observation.images.top": 32, "observation.images.wrist": 32}
    folder = policy_for(tmp_path_factory.mktemp("policy") / "two", cameras, state=3, actions=3)
    return load_policy(folder, "cpu")


HERE = f"{__name__}:TwoCameras"


def install_plugin(site, name: str, source: str) -> None:
    """An installed distribution, as importlib.metadata finds it."""
    (site / f"{name}.py").write_text(source)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


PLUGIN = """
from dataclasses import dataclass
import gymnasium
from lerobot.envs.configs import EnvConfig
gymnasium.register("lerobot_env_corner/Corner-v0", entry_point="test_gym_rollout:TwoCameras")

@EnvConfig.register_subclass("corner")
@dataclass
class Corner(EnvConfig):
    task: str = "Corner-v0"
    fps: int = 7
    package_name = "lerobot_env_corner"
    gym_kwargs = {}
"""


def test_an_installed_plugin_of_lerobot_is_found_and_a_broken_one_named(tmp_path, monkeypatch):
    install_plugin(tmp_path, "lerobot_env_corner", PLUGIN)
    install_plugin(tmp_path, "lerobot_env_broken", "raise RuntimeError('no licence')")
    install_plugin(tmp_path, "lerobot_robot_other", "raise SystemExit('a robot is not asked for')")
    monkeypatch.syspath_prepend(tmp_path)
    named = make_env("lerobot:corner")
    assert (named.rate_hz, named.env.unwrapped.__class__.__name__) == (7.0, "TwoCameras")
    words = "expected one of .*corner.*lerobot_env_broken cannot be imported .*no licence"
    with pytest.raises(EnvError, match=words):
        make_env("lerobot:nowhere")


def test_an_environment_whose_program_lies_on_the_hub_is_not_run():
    with pytest.raises(EnvError, match="fetches its program from the Hub, which is not run here"):
        make_env("lerobot:isaaclab_arena")


@pytest.mark.parametrize(
    "spec", ["gym_pusht/PushT-v0?obs_type=pixels_agent_pos&render_mode=rgb_array", "lerobot:pusht"]
)
def test_pusht_runs_by_its_id_and_by_lerobots_configuration(pusht, spec, tmp_path):
    loaded = load_policy(pusht, "cpu")
    record = evaluate_env(
        loaded, spec, episodes=2, seed=200_000, settings=EnvSettings(max_steps=12), out=tmp_path
    )
    assert json.loads(json.dumps(record)) == record
    assert record["success"]["n"] == 2 and 0 < record["success"]["high"] < 1
    assert [episode["seed"] for episode in record["episodes"]] == [200_000, 200_001]
    for episode in record["episodes"]:
        assert episode["steps"] == len(episode["progress"]) == 12
        assert episode["success"] is False and not episode["looked_again"]
        assert episode["outside_action_space"] == 0
        assert (tmp_path / f"seed-{episode['seed']}.mp4").stat().st_size > 0
    again = evaluate_env(loaded, spec, episodes=2, seed=200_000, settings=EnvSettings(max_steps=12))
    assert again["episodes"] == record["episodes"]


def test_success_return_length_and_stage_are_the_environments(two_cameras):
    (episode,) = evaluate_env(two_cameras, HERE, 1, 0, settings=EnvSettings(max_steps=50))[
        "episodes"
    ]
    assert episode["success"] and episode["env_return"] == 1.0 and episode["steps"] == 5
    assert episode["stage"] == "step 5"
    record = evaluate_env(
        two_cameras, f"{HERE}?tells=false", 1, 0, settings=EnvSettings(max_steps=50)
    )
    # It ended by itself with a reward, and never said that this was success.
    assert record["success"]["value"] is None and record["success"]["unknown"] == 1
    assert record["episodes"][0]["success"] is None
    (short,) = evaluate_env(two_cameras, HERE, 1, 0, settings=EnvSettings(max_steps=3))["episodes"]
    assert not short["success"] and short["steps"] == 3


@pytest.mark.parametrize("key", ["is_success", "success", "succeed"])
def test_success_is_read_from_what_environments_call_it(two_cameras, key):
    record = evaluate_env(two_cameras, f"{HERE}?key={key}", 1, 0, EnvSettings(50))
    assert record["success"]["value"] == 1.0 and record["success"]["unknown"] == 0


def test_another_key_of_success_is_given_and_one_that_never_comes_is_named(two_cameras):
    spec = f"{HERE}?key=solved"
    assert evaluate_env(two_cameras, spec, 1, 0, EnvSettings(50))["success"]["value"] is None
    named = EnvSettings(50, success_key="solved")
    assert evaluate_env(two_cameras, spec, 1, 0, named)["success"]["value"] == 1.0
    with pytest.raises(EnvError, match="never said 'won'; its info holds stage, solved"):
        evaluate_env(two_cameras, spec, 1, 0, EnvSettings(50, success_key="won"))
    with pytest.raises(EnvError, match=r"expected one true or false as info\['stage'\]"):
        evaluate_env(two_cameras, spec, 1, 0, EnvSettings(50, success_key="stage"))


def test_an_environment_that_ignores_the_seed_is_told(two_cameras):
    assert evaluate_env(two_cameras, HERE, 1, 0, EnvSettings(9))["seeded"]
    record = evaluate_env(two_cameras, f"{HERE}?seeded=false", 1, 0, EnvSettings(9))
    assert not record["seeded"]


def test_actions_are_scaled_and_held_as_asked(two_cameras, monkeypatch):
    made = []
    original = TwoCameras.__init__
    monkeypatch.setattr(
        TwoCameras, "__init__", lambda self, **k: (original(self, **k), made.append(self))[0]
    )
    evaluate_env(two_cameras, HERE, 1, 0, EnvSettings(4))
    settings = EnvSettings(4, action_scale="2,2,0.5", action_offset="1", control_hz=10)
    evaluate_env(two_cameras, HERE, 1, 0, settings)
    plain, scaled = (np.array(env.actions) for env in made)
    np.testing.assert_allclose(scaled[0], plain[0] * (2, 2, 0.5) + 1, rtol=1e-5)
    np.testing.assert_array_equal(scaled[0], scaled[1])  # two steps of 20 Hz
    np.testing.assert_array_equal(scaled[2], scaled[3])
    assert (scaled[1] != scaled[2]).any()
    with pytest.raises(EnvError, match="control_hz: expected its 20 Hz divided by a whole number"):
        evaluate_env(two_cameras, HERE, 1, 0, EnvSettings(4, control_hz=15))
    with pytest.raises(EnvError, match="action_scale: expected 1 number or 3"):
        evaluate_env(two_cameras, HERE, 1, 0, EnvSettings(4, action_scale="1,2"))
    with pytest.raises(ValueError, match="action_offset: expected numbers with commas"):
        EnvSettings(action_offset="a")


def test_a_rendered_picture_and_a_part_of_a_vector_may_be_inputs(tmp_path):
    folder = policy_for(tmp_path / "one", {"observation.images.far": 32}, state=2, actions=3)
    loaded = load_policy(folder, "cpu")
    mapping = as_mapping(["observation.images.far=render", "observation.state=joints[0:2]"])
    assert evaluate_env(loaded, HERE, 1, 0, EnvSettings(9, mapping=mapping))["success"]["n"] == 1
    for pair in ("observation.state", "=joints", "a=b"):
        pairs = [pair, pair]
        with pytest.raises(ValueError, match="expected FEATURE=KEY"):
            as_mapping(pairs)


def test_episodes_are_recorded_with_what_was_said_and_no_more(two_cameras, tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    out = tmp_path / "set"
    evaluate_env(two_cameras, HERE, 2, 0, EnvSettings(9, text="End well."), record=out)
    dataset = LeRobotDataset("local/set", root=out, video_backend="pyav")
    table = dataset.hf_dataset.with_format("numpy")[:]
    assert dataset.num_episodes == 2 and dataset.fps == 20 and dataset[0]["task"] == "End well."
    assert table["next.success"].tolist() == [False, False, False, False, True] * 2
    assert table["demo_is_pad"].all() and np.isnan(table["next.reward"]).all()
    assert np.isfinite(table["predicted_reward"]).all()
    assert dataset[0]["observation.images.top"].shape == (3, 32, 32)


def test_actions_outside_the_space_are_counted_not_clipped(two_cameras):
    spec = f"{HERE}?bound=0.000001"
    (episode,) = evaluate_env(two_cameras, spec, 1, 0, settings=EnvSettings(max_steps=50))[
        "episodes"
    ]
    assert episode["outside_action_space"] == 5


def test_a_policy_without_reward_head_drives_too(tmp_path):
    cameras = {"observation.images.top": 32, "observation.images.wrist": 32}
    folder = policy_for(tmp_path / "act", cameras, state=3, actions=3, reward_head="none")
    (episode,) = evaluate_env(
        load_policy(folder, "cpu"),
        HERE,
        1,
        0,
        settings=EnvSettings(max_steps=9),
        out=tmp_path / "video",
    )["episodes"]
    assert episode["success"] and episode["progress"] == []


@pytest.mark.parametrize("blank", ["look", "reset"])
def test_a_blank_first_observation_is_looked_at_again_without_a_step(blank, two_cameras):
    env = TwoCameras(blank=blank)
    observation, looked_again = first_observation(env, seed=3)
    assert looked_again and env.count == 0
    assert observation["pixels/top"].std() > 0
    assert env.resets == (1 if blank == "look" else 2)  # by its own function, else by a reset
    (episode,) = evaluate_env(
        two_cameras, f"{HERE}?blank={blank}", 1, 0, settings=EnvSettings(max_steps=9)
    )["episodes"]
    assert episode["looked_again"]


def test_a_camera_that_stays_blank_is_refused(two_cameras):
    with pytest.raises(EnvError, match="pixels/top is blank after the reset and after looking"):
        evaluate_env(two_cameras, f"{HERE}?blank=always", 1, 0, settings=EnvSettings(max_steps=9))


def test_what_does_not_fit_the_policy_is_named(two_cameras, pusht, tmp_path):
    with pytest.raises(EnvError, match=r"expected a Box of 2 numbers .* got Box\(-10"):
        evaluate_env(load_policy(pusht, "cpu"), HERE, 1, 0, settings=EnvSettings(max_steps=9))
    big = policy_for(tmp_path / "big", {"observation.images.top": 64}, state=3, actions=3)
    with pytest.raises(
        EnvError, match=r"images.top: expected shape \(64, 64, 3\) uint8 .*pixels/t"
    ):
        evaluate_env(load_policy(big, "cpu"), HERE, 1, 0, settings=EnvSettings(max_steps=9))
    side = policy_for(tmp_path / "side", {"observation.images.side": 32}, state=3, actions=3)
    loaded = load_policy(side, "cpu")
    with pytest.raises(EnvError, match=r"no pixels/side .* it gives .*name one by --map"):
        evaluate_env(loaded, HERE, 1, 0, settings=EnvSettings(max_steps=9))
    named = {"observation.images.side": "pixels/wrist", "observation.state": "joints"}
    assert (
        evaluate_env(loaded, HERE, 1, 0, EnvSettings(9, mapping=named))["success"]["value"] == 1.0
    )
    with pytest.raises(EnvError, match=r"mapping: observation.depth is no input"):
        evaluate_env(loaded, HERE, 1, 0, EnvSettings(9, mapping={"observation.depth": "x"}))


def test_a_policy_that_gives_nan_is_stopped_before_the_environment(two_cameras):
    broken = replace(two_cameras, postprocessor=lambda action: action * np.nan)
    with pytest.raises(EnvError, match="step 0: .* non-finite action"):
        evaluate_env(broken, HERE, 1, 0, settings=EnvSettings(max_steps=9))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("lerobot:nowhere", "expected one of .*pusht"),
        ("no_such_package:make", "No module named 'no_such_package'"),
        ("no_such_package/Thing-v0", "No module named 'no_such_package'"),
        ("gym_pusht/PushT-v9", "PushT"),
        ("No-Such/Thing-v0", "No-Such not found.*package:ID where the package is called otherwise"),
        (f"{HERE}?colour=red", "unexpected keyword argument 'colour'"),
        ("json:dumps?obj=1", "expected a gymnasium.Env from it, got str"),
        (HERE, "no limit of its own.*give --max-steps"),
    ],
)
def test_an_environment_that_cannot_be_made_says_why(two_cameras, spec, reason):
    with pytest.raises(EnvError, match=reason):
        evaluate_env(two_cameras, spec, 1, 0)


def test_observations_are_flattened_by_name():
    assert list(flatten({"a": {"b": np.zeros(1), "c": 2}, "d": [1]})) == ["a/b", "a/c", "d"]
    assert list(flatten(np.zeros(3))) == ["observation"]
    named = make_env("gym_pusht/PushT-v0?obs_type=pixels_agent_pos&render_mode=rgb_array")
    assert named.rate_hz == 10 and named.max_steps == 300
    named.env.close()


def test_lerobot_eval_runs_a_checkpoint_of_ours(pusht, tmp_path):
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_eval", f"--policy.path={pusht}"]
    command += ["--env.discover_packages_path=rewact_ros.policy", "--policy.device=cpu"]
    command += ["--env.type=pusht", "--env.episode_length=5", "--eval.n_episodes=1"]
    command += ["--eval.batch_size=1", f"--output_dir={tmp_path}"]
    env = {**os.environ, "SDL_VIDEODRIVER": "dummy"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads((tmp_path / "eval_info.json").read_text())
    assert figures["overall"]["n_episodes"] == 1
