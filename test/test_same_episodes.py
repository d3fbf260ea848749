"""Episodes of fixed seeds are the same, byte for byte, whatever is rebuilt around them.

`python test/test_same_episodes.py` records what they are now, for this kind of machine: the last
bits of a float depend on the processor's instructions. A machine of another kind runs the episodes
and compares what no last bit decides.
"""

import hashlib
import json
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

RECORDED = Path(__file__).with_name("same_episodes.json")


def digest(*things: object) -> str:
    """SHA-256 of arrays, data classes and what JSON can hold; NaN equals NaN."""
    found = hashlib.sha256()

    def take(thing: object) -> None:
        if is_dataclass(thing) and not isinstance(thing, type):
            take({f.name: getattr(thing, f.name) for f in fields(thing) if f.compare})
        elif isinstance(thing, dict):
            for key in sorted(thing):
                found.update(str(key).encode())
                take(thing[key])
        elif isinstance(thing, (list, tuple)):
            for item in thing:
                take(item)
        elif isinstance(thing, np.ndarray):
            found.update(
                f"{thing.dtype.str}{thing.shape}".encode() + np.ascontiguousarray(thing).tobytes()
            )
        elif hasattr(thing, "numpy"):
            take(thing.numpy())
        else:
            found.update(repr(thing).encode())

    for thing in things:
        take(thing)
    return found.hexdigest()[:16]


def machine() -> str:
    """What last bits depend on: the results of the libraries' own kernels here."""
    import torch

    rng = np.random.default_rng(0)
    a = rng.standard_normal((64, 64))
    b = torch.from_numpy(a).float()
    kernel = torch.from_numpy(rng.standard_normal((8, 3, 3, 3))).float()
    picture = torch.from_numpy(rng.standard_normal((1, 3, 32, 32))).float()
    return digest(
        a @ a, np.sin(a), np.exp(a), b @ b, torch.softmax(b, 0), torch.conv2d(picture, kernel)
    )


class Episodes:
    """Every way in which an episode is driven, in small."""

    def __init__(self, folder: Path) -> None:
        import torch
        from conftest import write_policy

        from rewact_ros.contract import load_contract
        from rewact_ros.sim.pick_place.task import PickPlace

        torch.set_num_threads(1)
        root = Path(__file__).parents[1]
        self.contract = load_contract(root / "config" / "robots" / "vx300s.yaml")
        self.shipped = root / "models" / "vx300s_pick_place"
        self.tiny = write_policy(self.contract, folder / "tiny")
        self.sim = PickPlace()

    def close(self) -> None:
        self.sim.close()

    def engine(self, folder: Path):
        from rewact_ros.policy.checkpoint import load_policy
        from rewact_ros.policy.engine import TorchEngine

        return TorchEngine(load_policy(folder, "cpu"), threads=None, rate_hz=20)

    def demonstrations(self) -> tuple[str, str]:
        """Scripted, with noise, a retry, and both kinds of failure."""
        from rewact_ros.episodes.demonstration import demonstrate
        from rewact_ros.episodes.demos import episode_labels

        found = [
            demonstrate(self.sim, 3, noise_rad=0.035),
            demonstrate(self.sim, 200_020, "missed_grasp", retry=True, noise_rad=0.02),
            demonstrate(self.sim, 5, "dropped_cube", noise_rad=0.01),
            demonstrate(self.sim, 6, retries=1),
        ]
        outcome = [(len(e.action), e.success_frame is not None) for e in found]
        return digest(found, [episode_labels(e, type(self.sim)) for e in found]), repr(outcome)

    def rollouts(self) -> tuple[str, str]:
        """A policy, undisturbed and disturbed, with slower inference, kept and labelled."""
        from rewact_ros.episodes.rollout import RolloutSettings, record_rollout, roll_out
        from rewact_ros.episodes.rollout_dataset import rollout_labels

        engine = self.engine(self.shipped)
        disturbed = RolloutSettings(
            replan_steps=2, latency_s=0.07, limit_s=6, action_noise_rad=0.03, push_n=3.0
        )
        plain = roll_out(engine, self.sim, 100_003, RolloutSettings(limit_s=4))
        result, trace = record_rollout(engine, self.sim, 100_004, disturbed)
        kept = [
            trace.state, trace.action, trace.images, trace.truths, trace.notes, trace.reward,
        ]  # fmt: skip
        said = [p and (p.actions, p.reward, p.quantiles) for p in trace.predictions]
        labels = rollout_labels(self.sim, trace)
        # Whether a disturbed policy succeeds may hang on a last bit.
        return digest(plain, result, kept, said, labels), repr(sorted(labels))

    def helped(self) -> tuple[str, str]:
        """A policy that stalls and is helped; one that gets there by itself."""
        from rewact_ros.episodes.helped import HelpSettings, drive_with_help
        from rewact_ros.sim.human import Traits

        found = []
        early = HelpSettings(stall_s=0.3, hold_s=0.1, human=Traits(reaction_s=0.2), completion=2.0)
        for folder, seed, settings in (
            (self.tiny, 1, early),
            (self.tiny, 2, HelpSettings(stall_s=0.3, limit_s=2.0, human=Traits(attempts=0))),
            (self.shipped, 100_003, HelpSettings(limit_s=8.0)),
        ):
            found.append(drive_with_help(self.engine(folder), self.sim, seed, "mean", settings))
        modes = [[m.value for m in frames.mode] for _, frames in found]
        kept = [(f.state, f.action, f.images) for _, f in found]
        return digest([r for r, _ in found], kept, modes), repr([r.reason for r, _ in found])

    def learning(self) -> tuple[str, str]:
        """Episodes of `rewact learn --sim`: helped, alone, judged by the environment."""
        from dataclasses import replace

        from test_rl_agent import make_base
        from test_rl_loop import RL, SHORT

        from rewact_ros.learning.rl.driver import Driver
        from rewact_ros.learning.rl.environment import Acting, SimEpisode
        from rewact_ros.learning.rl.loop import new_agent
        from rewact_ros.learning.rl.transitions import TransitionBuilder
        from rewact_ros.sim.human import Traits
        from rewact_ros.supervision.signals import SignalSettings

        base = make_base(self.tiny, self.contract, RL)
        driver = Driver(RL, base, new_agent(RL, base))
        helped = replace(SHORT, human=Traits(reaction_s=0.1), completion=2.0)
        results, found = [], []
        for number, settings in enumerate(
            (helped, SHORT, replace(SHORT, success_by="environment"), replace(helped, stall_s=9.0))
        ):
            builder = TransitionBuilder(base.spec(RL), RL.steps)
            episode = SimEpisode(
                self.sim, driver, self.contract, SignalSettings(level="mean"), settings, builder,
                found.append,
            )  # fmt: skip
            acting = Acting(explore=1.0, version="v")
            results.append(episode.run(f"{number:06d}", number, 1000 + number, acting))
        return digest(results, found), repr([(r.reason, r.interventions) for r in results])


DRIVERS = ("demonstrations", "rollouts", "helped", "learning")


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory):
    found = Episodes(tmp_path_factory.mktemp("episodes"))
    yield found
    found.close()


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_episode_is_what_it_was(episodes, driver: str):
    recorded = json.loads(RECORDED.read_text())
    bytes_, outcome = getattr(episodes, driver)()
    assert outcome == recorded["outcomes"][driver]
    if machine() in recorded["machines"]:
        assert bytes_ == recorded["machines"][machine()][driver]


def test_a_changed_bit_changes_the_digest():
    arrays = [np.zeros(3), np.zeros(3, np.float32)]
    changed = np.zeros(3)
    changed[1] = np.nextafter(0, 1)
    assert digest(arrays[0]) != digest(arrays[1]) and digest(arrays[0]) != digest(changed)
    assert digest({"a": np.nan}) == digest({"a": float("nan")})


def record(folder: Path) -> None:
    """Write what the episodes are now beside what other machines found."""
    known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {"machines": {}}
    episodes = Episodes(folder)
    found = {driver: getattr(episodes, driver)() for driver in DRIVERS}
    episodes.close()
    known["outcomes"] = {driver: outcome for driver, (_, outcome) in found.items()}
    known["machines"][machine()] = {driver: bytes_ for driver, (bytes_, _) in found.items()}
    RECORDED.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder))
    sys.exit()
