"""One learner on several processes: the same weights everywhere, and those of a single one."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import free_port
from safetensors.torch import load_file, save_file
from test_rl_agent import make_base
from test_rl_learner import QUICK, episode, learn, make_learner

from rewact_ros.contract import Contract, load_contract
from rewact_ros.learning.rl.learner import Learner
from rewact_ros.learning.rl.learner_state import agent_tensors
from rewact_ros.learning.rl.run import _open, follow
from rewact_ros.learning.rl.run_settings import RunSettings
from rewact_ros.learning.rl.settings import LearnError, RLSettings, preset
from rewact_ros.learning.rl.team import Order, Team, make_team

CONTRACT = str(Path(__file__).parents[1] / "config" / "robots" / "vx300s.yaml")
# Nothing is drawn but rows: the parts of a batch then add up to the whole one.
PLAIN = preset("q_chunking", num_candidates=2, random_shift_px=0, **QUICK | {"num_critics": 2})
ACTOR = preset("act_sac", act_from_base=False, **QUICK | {"utd_ratio_uncalibrated": 0.4})


def run_with(learner: Learner, settings: RLSettings) -> None:
    base = make_base(Path(os.environ["TINY_POLICY"]), load_contract(CONTRACT), settings)
    learner.restore(episode(base, settings, 90, "h" * 12), ())
    for number in range(2):
        for transition in episode(base, settings, number, "ppppphhhppp"):
            learn(learner, transition)


def take_part(rank: int, count: int, port: int, settings: RLSettings, policy: str, out: str):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TINY_POLICY": policy}
    team = make_team("cpu", settings.batch_size)
    assert (team.rank, team.count) == (rank, count)
    run = RunSettings(out=out, policy=policy, contract=CONTRACT, rl=settings, device="cpu")
    _, learner = _open(run, team, None)
    if rank:
        learner.follow()
    else:
        run_with(learner, settings)
        team.tell(Order.END)
    save_file(agent_tensors(learner.agent), Path(out) / f"{rank}.safetensors")


@pytest.mark.parametrize("settings", [PLAIN, ACTOR], ids=["critic", "actor"])
def test_two_processes_learn_what_one_does(
    settings: RLSettings, tiny_policy: Path, vx300s: Contract, tmp_path: Path, monkeypatch
):
    port = free_port()
    context = multiprocessing.get_context("spawn")
    members = [
        context.Process(
            target=take_part, args=(rank, 2, port, settings, str(tiny_policy), str(tmp_path))
        )
        for rank in (0, 1)
    ]
    try:
        for member in members:
            member.start()
        monkeypatch.setenv("TINY_POLICY", str(tiny_policy))
        alone = make_learner(make_base(tiny_policy, vx300s, settings), settings)
        before = agent_tensors(alone.agent)
        run_with(alone, settings)
        for member in members:
            member.join(timeout=180)
            assert member.exitcode == 0
    finally:
        for member in members:
            if member.is_alive():
                member.kill()
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    moved = [name for name in first if not torch.equal(first[name], before[name])]
    assert moved
    if settings is PLAIN:
        expected = agent_tensors(alone.agent)
        for name in moved:
            torch.testing.assert_close(first[name], expected[name], rtol=0, atol=1e-4)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch):
    class Three(Team):
        count = 3

        def __init__(self, device: str) -> None:
            pass

    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr("rewact_ros.learning.rl.team.Processes", Three)
    with pytest.raises(LearnError, match="expected a multiple of the 3 processes, got 64"):
        make_team("cpu", 64)


def test_alone_nobody_is_told_and_a_follower_ends_at_once(tiny_policy: Path, tmp_path: Path):
    run = RunSettings(
        out=str(tmp_path), policy=str(tiny_policy), contract=CONTRACT, rl=replace(PLAIN)
    )
    follow(run)
    assert not list(tmp_path.iterdir())
