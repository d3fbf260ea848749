"""The fast path: simulation, human, monitor and learner in one process."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_rl_agent import make_base
from test_rl_learner import QUICK

from rewact_ros.contract import Contract, ContractError
from rewact_ros.episodes.dataset import add_episode, new_dataset
from rewact_ros.learning.rl.demos import open_demos
from rewact_ros.learning.rl.driver import Driver
from rewact_ros.learning.rl.environment import Acting, SimEpisode
from rewact_ros.learning.rl.journal import Journal, JournalError, from_record
from rewact_ros.learning.rl.loop import FastLoop, new_agent
from rewact_ros.learning.rl.run import LearningRun
from rewact_ros.learning.rl.run_settings import LearnSettings, SimEpisodeSettings
from rewact_ros.learning.rl.settings import LearnError, preset
from rewact_ros.learning.rl.transitions import Transition, TransitionBuilder
from rewact_ros.sim.human import Traits
from rewact_ros.sim.pick_place.task import PickPlace
from rewact_ros.supervision.signals import SignalSettings

RL = preset("residual", **QUICK)
SHORT = SimEpisodeSettings(limit_s=1.0, stall_s=0.2, hold_s=0.1, human=None)


@pytest.fixture(scope="module")
def sim():
    found = PickPlace()
    yield found
    found.close()


def fast(tiny_policy: Path, contract_file: str, out: Path, **changes: object) -> LearnSettings:
    settings = LearnSettings(
        out=str(out),
        policy=str(tiny_policy),
        contract=contract_file,
        rl=RL,
        episode=SHORT,
        episodes=2,
        eval_every=0,
        eval_most=1,
        device="cpu",
    )
    return replace(settings, **changes)


@pytest.fixture(scope="module")
def contract_file() -> str:
    return str(Path(__file__).parents[1] / "config" / "robots" / "vx300s.yaml")


def drive(
    sim: PickPlace, tiny_policy: Path, contract: Contract, settings: SimEpisodeSettings
) -> tuple[list[Transition], object]:
    base = make_base(tiny_policy, contract, RL)
    driver = Driver(RL, base, new_agent(RL, base))
    found: list[Transition] = []
    builder = TransitionBuilder(base.spec(RL), RL.steps)
    signals = SignalSettings(level="mean")
    episode = SimEpisode(sim, driver, contract, signals, settings, builder, found.append)
    return found, episode.run("000000", 0, 1000, Acting(explore=1.0, version="v"))


def test_a_stalling_policy_is_helped_and_what_the_human_did_is_marked(
    sim: PickPlace, tiny_policy: Path, vx300s: Contract
):
    helped = replace(SHORT, human=Traits(reaction_s=0.1, noise_rad=0.0), completion=2.0)
    found, result = drive(sim, tiny_policy, vx300s, helped)
    assert result.interventions == 1 and result.reason == "done by a human"
    assert result.success and result.truth
    human = [t.human for t in found]
    first = human.index(True)
    assert not any(human[:first]) and all(human[first:])  # one turn, to the end
    assert found[-1].terminated and found[-1].reward[-1] == 1
    assert sum(float(t.reward.sum()) for t in found) == 1
    # A rescue is no merit of who needed it: the policy's turn ends with its call for help.
    assert found[first - 1].terminated and found[first].first > sum(map(len, found[:first]))
    for turn in (found[:first], found[first:]):
        steps = [t.first - turn[0].first for t in turn]
        assert steps == list(np.cumsum([0, *map(len, turn)])[:-1])
        for before, after in itertools.pairwise(turn):
            for name, seen in before.observations.items():
                np.testing.assert_array_equal(seen[-1], after.observations[name][0])
    # A robot step's action is the command in force at its end: the arm is about there then.
    moved = np.concatenate([t.action for t in found])
    reached = np.stack([t.observations["observation.state"][-1] for t in found])
    assert np.abs(moved - reached)[:, :6].mean() < 0.05
    limits = vx300s.limits
    assert (np.abs(np.diff(moved, axis=0)) <= limits.velocity / 20 + 1e-5).all()
    assert (moved >= limits.low).all() and (moved <= limits.high).all()


def test_the_policy_goes_on_where_a_human_gives_up(
    sim: PickPlace, tiny_policy: Path, vx300s: Contract
):
    tired = replace(SHORT, human=Traits(reaction_s=0.1, attempts=0), completion=2.0)
    found, result = drive(sim, tiny_policy, vx300s, tired)
    assert (result.reason, result.success) == ("timeout", False) and result.interventions
    human = [t.human for t in found]
    assert not human[0] and any(human) and not human[-1]


def test_nobody_helps_where_there_is_nobody_and_the_time_out_truncates(
    sim: PickPlace, tiny_policy: Path, vx300s: Contract
):
    found, result = drive(sim, tiny_policy, vx300s, SHORT)
    assert (result.reason, result.interventions, result.success) == ("timeout", 0, False)
    assert found[-1].truncated and not found[-1].terminated
    assert sum(len(t) for t in found) == 20 and not any(t.reward.any() for t in found)
    assert {t.policy_version for t in found} == {"v"}


def test_an_episode_is_the_same_for_the_same_number(
    sim: PickPlace, tiny_policy: Path, vx300s: Contract
):
    (one, _), (other, _) = (drive(sim, tiny_policy, vx300s, SHORT) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.action, b.action)


def test_a_run_broken_off_in_an_episode_goes_on_and_loses_no_transition(
    tiny_policy: Path, contract_file: str, tmp_path: Path
):
    settings = fast(tiny_policy, contract_file, tmp_path / "run", episodes=3, save_every_s=0)
    loop, steps = FastLoop(settings), []
    take = loop._take

    def breaking(transition: Transition) -> None:
        take(transition)
        steps.append(transition)
        if len(steps) == 30:  # in the second episode, after the checkpoint of the first
            raise KeyboardInterrupt

    loop._take = breaking
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    with pytest.raises(LearnError, match="continue it with --resume"):
        FastLoop(settings)
    figures = FastLoop(settings, resume=True).run()
    journal = Journal(tmp_path / "run" / "journal")
    lengths = [0, 0, 0]
    for transition in journal.read():
        lengths[int(transition.episode)] += len(transition)
    assert lengths == [20, 10, 20] and figures["robot_steps"] == 50
    assert figures["updates"] == (50 - RL.online_step_before_learning) * 0.5
    assert (tmp_path / "run" / "checkpoints" / "last" / "agent.safetensors").is_file()
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert not (tmp_path / "run" / "replay").exists()  # a cache, of gigabytes


def bytes_of(run: LearningRun) -> dict[str, bytes]:
    """What a run has made: replay, journal, and its checkpoint."""
    run.save()
    replay = {
        f"{name} {array}": getattr(buffer, array).tobytes()
        for name, buffer in (("online", run.learner.online), ("demos", run.learner.demos))
        for array in ("_action", "_reward", "_human", "_segment", "_run")
    }
    last = run.out / "checkpoints" / "last"
    names = ("agent.safetensors", "optimizers.safetensors", "state.json")
    files = [*sorted((run.out / "journal").glob("*.bin")), *(last / name for name in names)]
    return replay | {file.name: file.read_bytes() for file in files}


def test_who_is_told_learns_the_same_bytes_as_who_drives(
    tiny_policy: Path, contract_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    helped = replace(SHORT, human=Traits(reaction_s=0.1, attempts=0), completion=2.0)
    settings = fast(tiny_policy, contract_file, tmp_path / "drives", episode=helped)
    made = []
    with monkeypatch.context() as patch:
        close = LearningRun.close
        patch.setattr(LearningRun, "close", lambda run: (made.append(bytes_of(run)), close(run)))
        FastLoop(settings).run()
    told = LearningRun(replace(settings, out=str(tmp_path / "told")), resume=False)
    told.restore(helped.completion)
    robot = Journal(tmp_path / "drives" / "journal")
    for record in robot.records():
        told.take(from_record(record))
    assert told.learner.counts.updates and told.learner.counts.human_steps
    assert bytes_of(told) == made[0]
    told.close()
    robot.close()


def test_a_second_learner_on_a_run_is_refused(
    tiny_policy: Path, contract_file: str, tmp_path: Path
):
    settings = fast(tiny_policy, contract_file, tmp_path)
    loop = FastLoop(settings)
    with pytest.raises(JournalError, match="another learner"):
        FastLoop(settings, resume=True)
    loop.run_state.close()


def test_an_evaluation_publishes_the_best_policy_and_judges_by_the_truth(
    tiny_policy: Path, contract_file: str, tmp_path: Path
):
    settings = fast(tiny_policy, contract_file, tmp_path, episodes=0, eval_every=1, eval_episodes=1)
    figures = FastLoop(settings).run()
    assert figures["validation_success"] == 0 and figures["validation_verdicts_right"] == 1
    best = json.loads((tmp_path / "best.json").read_text())
    assert (tmp_path / "policies" / best["path"] / "model.safetensors").is_file()
    assert (tmp_path / "policies" / "best").readlink() == Path(best["path"])


def test_a_version_that_nothing_shows_to_be_as_good_does_not_replace_the_best(
    tiny_policy: Path, contract_file: str, tmp_path: Path
):
    settings = fast(tiny_policy, contract_file, tmp_path, episodes=1, eval_every=1, eval_episodes=1)
    FastLoop(settings).run()
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    first, last = (line["validation_replaces"] for line in lines if "validation_success" in line)
    assert first.startswith("kept") and "0/1 -> 0/1" in last and "refused" in last
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["scores"] == [0.0]
    assert {p.name for p in (tmp_path / "policies").iterdir()} == {"best", best["path"]}


def test_an_evaluation_that_was_broken_off_is_made_up_for_and_none_is_made_twice(
    tiny_policy: Path, contract_file: str, tmp_path: Path
):
    settings = fast(tiny_policy, contract_file, tmp_path, eval_every=2, eval_episodes=1)
    loop = FastLoop(settings)
    evaluate, calls = loop._evaluate, []

    def breaking(*arguments: object) -> dict[str, float]:
        calls.append(arguments)
        if len(calls) == 2:  # the one after the last episode
            raise KeyboardInterrupt
        return evaluate(*arguments)

    loop._evaluate = breaking
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    for _ in range(2):
        FastLoop(settings, resume=True).run()
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert ["validation_success" in line for line in lines] == [True, False, False, True]


# -- demonstrations --------------------------------------------------------------------------


def write_demos(contract: Contract, folder: Path, success: bool = True) -> Path:
    frames, rng = 12, np.random.default_rng(0)
    with new_dataset(contract, folder) as dataset:
        for _ in range(2):
            pose = np.array(contract.reset.pose, np.float32) + np.linspace(0, 0.1, frames)[:, None]
            last = np.arange(frames) == frames - 1
            labels = {
                "next.reward": np.linspace(0, 1, frames, dtype=np.float32),
                "next.done": last,
                "next.success": last & success,
                "demo_is_pad": np.zeros(frames, bool),
            }
            shapes = {camera.name: (frames, *camera.shape) for camera in contract.cameras}
            images = {n: rng.integers(0, 255, s).astype(np.uint8) for n, s in shapes.items()}
            state = pose.astype(np.float32)
            add_episode(dataset, contract, "task", state, state + 0.01, images, labels)
    return folder


def test_demonstrations_become_transitions_once(
    vx300s: Contract, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset, base = write_demos(vx300s, tmp_path / "demos"), make_base(tiny_policy, vx300s, RL)
    rest = (dataset, 5, base, RL, SignalSettings(level="mean"), 2.0)
    journal = open_demos(tmp_path / "journal", *rest)
    found = list(journal.read())
    journal.close()
    assert sum(len(t) for t in found) == 2 * 11 and all(t.human for t in found)
    ends = [t for t in found if t.ended]
    assert len(ends) == 2 and all(t.terminated and t.reward[-1] == 1 for t in ends)
    # The action of a step is in force at its end: the dataset's of the next frame.
    first = found[0]
    np.testing.assert_allclose(
        first.action[0], first.observations["observation.state"][1] + 0.01, atol=1e-6
    )
    again = open_demos(tmp_path / "journal", *rest)
    assert len(again) == len(found)
    again.close()
    with pytest.raises(LearnError, match="holds other demonstrations"):
        open_demos(tmp_path / "journal", dataset, 1, *rest[2:])


def test_demonstrations_without_a_success_or_of_another_robot_are_refused(
    vx300s: Contract, g1: Contract, tiny_policy: Path, tmp_path: Path
):
    base, rest = make_base(tiny_policy, vx300s, RL), (RL, SignalSettings(level="mean"), 0.9)
    failures = write_demos(vx300s, tmp_path / "failures", success=False)
    with pytest.raises(LearnError, match="none of its episodes succeeds"):
        open_demos(tmp_path / "one", failures, 5, base, *rest)
    contract = failures / "meta" / "contract.json"
    contract.write_text(json.dumps({"hash": g1.hash, "signature": g1.signature()}))
    with pytest.raises(ContractError, match="rate_hz: expected 20"):
        open_demos(tmp_path / "two", failures, 5, base, *rest)
