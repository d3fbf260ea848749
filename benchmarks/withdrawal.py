"""Bench topic `withdrawal`: whether a bound is withdrawn when the world changes, and only then.

The shipped policy drives the simulated arm in a world that is as it was and in changed ones. Scores
of the unchanged world are split into a calibration and new episodes. What withdraws the bound is
the supervisor's own code, fed with what the policy said and with the cameras' first pictures.

Roll-outs lie in `runs/bench/withdrawal`; a run that was killed goes on.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from withdrawal_cameras import real, simulated
from withdrawal_rollouts import SAME, Begun, Change, begin

from rewact_ros.bench.figures import Bench
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.share import share_dir
from rewact_ros.sim.pick_place.simulation import CAMERAS
from rewact_ros.sim.timing import RATE_HZ
from rewact_ros.stack.bringup import default_policy
from rewact_ros.supervision.camera_check import view_of
from rewact_ros.supervision.drift import Beginning, Drift, DriftReference, drift_reference
from rewact_ros.supervision.signals import FeatureDistance, PolicySample, Signals, SignalTracker
from rewact_ros.supervision.withdrawal import BoundState, BoundWatch
from rewact_ros.supervision.world import World, world_of

Scores = dict[str, float]
# Policy pictures have 96 rows: 40 of 480 rows are 8 of its own pixels.
CHANGED = {
    "front camera by 8 px": (Change(8.0), 291_000),
    "front camera by 40 px": (Change(40.0), 294_000),
    "wrist camera by 8 px": (Change(8.0, camera="wrist"), 296_000),
    "wrist camera by 40 px": (Change(40.0, camera="wrist"), 297_000),
    "light 0.6": (Change(light=0.6), 292_000),
    "light 1.4": (Change(light=1.4), 293_000),
    "light 0.4": (Change(light=0.4), 299_000),
    "wrist camera by 120 px": (Change(120.0, camera="wrist"), 298_000),
}


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        same: episodes of the unchanged world, from `FIRST` on.
        fitting: of them, for the novelty; `calibration`: of the others.
        changed: episodes of each changed world.
        orders: in which recorded episodes are drawn.
        scenes: that cameras look at, and of these for a reference.
        real: episodes of a real robot.
    """

    same: int = 130
    fitting: int = 20
    calibration: int = 60
    changed: int = 20
    orders: int = 400
    scenes: tuple[int, int] = (30, 8)
    real: int = 8


FIRST = 290_000
WITHIN, LONG = 20, 200
_FULL, _QUICK = Plan(), Plan(same=0, scenes=(12, 2), real=2)


def run(bench: Bench) -> None:
    """Measure drift of scores, cameras, and both together; `--quick` looks at cameras alone."""
    plan = _QUICK if bench.quick else _FULL
    size = (320, 240) if bench.quick else (640, 480)
    simulated(bench, size, *plan.scenes)
    if not bench.quick:
        simulated(bench, (96, 96), *plan.scenes)
    root = Path(os.environ.get("REWACT_DATA", share_dir().parent / "shared" / "data"))
    if (root / "g1_bottle").is_dir():
        real(bench, root / "g1_bottle", plan.real)
    else:
        bench.settings["missing"] = f"real pictures: no data set at {root}; set REWACT_DATA"
    if plan.same:
        drift(bench, plan)


def drift(bench: Bench, plan: Plan) -> None:
    """Drift of scores alone, in many orders; then the whole watch, in the order of the scenes."""
    loaded = load_policy(Path(default_policy()), "cpu")
    folder = bench.folder / "withdrawal"
    same = begin(loaded, SAME, range(FIRST, FIRST + plan.same), folder)
    bench.settings["policy"] = loaded.version
    bench.settings["succeed"] = f"{sum(bool(e.success.any()) for e in same)} of {len(same)}"
    fitting, rest = same[: plan.fitting], same[plan.fitting :]
    distance = FeatureDistance.fit(np.concatenate([e.features for e in fitting]))
    scored = [scores_of(e, distance) for e in rest]
    known = [one for one in scored if one]
    rng = np.random.default_rng(0)

    # Calibration and new episodes drawn alike from all that were recorded.
    false = [
        first_alarm(_draw(known, plan.calibration, rng), _draw(known, LONG, rng), rng)
        for _ in range(plan.orders)
    ]
    _share(bench, f"drift, unchanged: withdrawn in {LONG} episodes", false, LONG, "≤ 0.05")
    count = plan.calibration
    worlds = {
        what: begin(loaded, change, range(seed, seed + plan.changed), folder)
        for what, (change, seed) in CHANGED.items()
    }
    for what, changed in worlds.items():
        new = [one for one in (scores_of(e, distance) for e in changed) if one]
        for before in (0, 30):
            found = []
            for _ in range(plan.orders):
                order = rng.permutation(len(known))
                calibration = [known[i] for i in order[: min(count, len(known) - before)]]
                ahead = [known[i] for i in order[len(order) - before :]] if before else []
                behind = [new[i] for i in rng.permutation(len(new))]
                found.append(first_alarm(calibration, [*ahead, *behind], rng, before))
            after = f" after {before} unchanged" if before else ""
            _share(
                bench, f"drift, {what}{after}: withdrawn in {WITHIN} episodes", found, WITHIN, ""
            )
        succeeded = sum(bool(e.success.any()) for e in changed)
        bench.add(
            f"{what}: episodes that succeed", succeeded / len(changed), "share", n=len(changed)
        )
    together(bench, rest, worlds, distance, count)


def together(
    bench: Bench,
    rest: Sequence[Begun],
    worlds: dict[str, list[Begun]],
    distance: FeatureDistance,
    count: int,
) -> None:
    """The supervisor's watch over one run of each world: pictures of 96 rows and scores."""
    calibrating, new = rest[:count], rest[count:]
    scored = [one for one in (scores_of(e, distance) for e in calibrating) if one]
    views = {c: (96, [view_of(getattr(e, c)) for e in calibrating]) for c in CAMERAS}
    world = world_of(scored, views)
    at, reason = watched(world, new, distance)
    bench.settings["unchanged run"] = reason or "not withdrawn"
    bench.add(
        f"one run, unchanged: withdrawn in {len(new)} episodes", float(at > 0), "", goal="≤ 0"
    )
    for what, changed in worlds.items():
        at, reason = watched(world, changed, distance)
        bench.settings[f"run, {what}"] = reason or "not withdrawn"
        goal = f"≤ {WITHIN}" if what.endswith("px") else ""
        bench.add(
            f"one run, {what}: withdrawn in episode", float(at) if at else None, "", goal=goal
        )


def watched(world: World, episodes: Sequence[Begun], distance: FeatureDistance) -> tuple[int, str]:
    """Number of the episode in which the bound is withdrawn, 0 if in none, and why."""
    watch = BoundWatch(world, "bench", BoundState(), lambda _: None, np.random.default_rng(0))
    watch.claimed = True
    for number, episode in enumerate(episodes, start=1):
        watch.begin()
        for camera in CAMERAS:
            watch.look(camera, view_of(getattr(episode, camera)))
        watch.compare()
        for signals in signals_of(episode, distance):
            watch.add(signals, alone=True)
        if watch.reason:
            return number, watch.reason
    return 0, ""


def signals_of(episode: Begun, distance: FeatureDistance) -> list[Signals]:
    """After every frame, as the supervisor has them."""
    tracker = SignalTracker(distance=distance)
    return [
        tracker.add(
            PolicySample(
                frame / RATE_HZ,
                float(episode.mean[frame]),
                float(episode.q10[frame]),
                float(episode.entropy[frame]),
                episode.features[frame],
            )
        )
        for frame in range(len(episode.mean))
    ]


def scores_of(episode: Begun, distance: FeatureDistance) -> Scores:
    """Of its first seconds; empty: it ended before."""
    beginning, found = Beginning(), {}
    for signals in signals_of(episode, distance):
        found = beginning.add(signals) or found
    return found


def _draw(known: Sequence[Scores], count: int, rng: np.random.Generator) -> list[Scores]:
    return [known[i] for i in rng.integers(0, len(known), count)]


def first_alarm(
    calibration: Sequence[Scores],
    episodes: Sequence[Scores],
    rng: np.random.Generator,
    before: int = 0,
) -> int:
    """Episode after `before` in which the test fires, 0 if it does not; negative: before."""
    reference = drift_reference(calibration)
    assert isinstance(reference, DriftReference)
    drift = Drift()
    for number, scores in enumerate(episodes, start=1):
        drift = drift.add(scores, reference, rng)
        if drift.found(reference):
            return number - before if number > before else -number
    return 0


def _share(bench: Bench, name: str, found: Sequence[int], within: int, goal: str) -> None:
    """Share of orders in which the test fired in time; those in which it did too early are not."""
    count = sum(0 < number <= within for number in found)
    low, high = wilson_interval(count, len(found))
    bench.add(name, count / len(found), "share", goal=goal, n=len(found), low=low, high=high)
    delays = [number for number in found if number > 0]
    if 2 * len(delays) > len(found) and not goal:
        bench.add(f"{name}, median delay", float(np.median(delays)), "episodes", n=len(delays))
