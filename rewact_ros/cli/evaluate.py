"""`rewact eval`: a policy in closed loop over many simulated scenes, without ROS."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    policy: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    episodes: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 50,
    seed: Annotated[
        int, typer.Option(min=0, help="First scene; from 200000: reported figures.")
    ] = 100_000,
    replan_steps: Annotated[int, typer.Option(min=1, help="Observations per inference.")] = 1,
    combine: Annotated[
        str, typer.Option(help="Overlapping chunks: ensemble or replace.")
    ] = "ensemble",
    latency_s: Annotated[float, typer.Option(min=0.0, help="From observation to chunk.")] = 0.02,
    out: Annotated[str, typer.Option(help="Folder; default: runs/<time>-eval.")] = "",
) -> None:
    """Report successes with a Wilson interval, the stage reached and the cause of each failure."""
    import json
    from collections import Counter
    from dataclasses import asdict

    from tqdm import tqdm

    from rewact_ros.learning.rollout import roll_out
    from rewact_ros.policy.checkpoint import load_policy
    from rewact_ros.policy.engine import TorchEngine
    from rewact_ros.reward.metrics import wilson_interval
    from rewact_ros.runs import machine, new_run
    from rewact_ros.sim.pick_place import PickPlaceSim

    loaded = load_policy(policy, device="cpu")
    engine = TorchEngine(loaded)
    height, width = next(iter(loaded.config.image_features.values())).shape[1:]
    sim, results = PickPlaceSim(width, height), []
    try:
        bar = tqdm(range(seed, seed + episodes), unit="episode", mininterval=1)
        for scene in bar:
            results.append(roll_out(engine, sim, scene, replan_steps, combine, latency_s))
            bar.set_postfix_str(f"success {sum(r.success for r in results)}/{len(results)}")
    finally:
        sim.close()
    successes = sum(r.success for r in results)
    low, high = wilson_interval(successes, episodes)
    failures = Counter(f"{r.stage}: {r.failure or 'time-out'}" for r in results if not r.success)
    folder = Path(out) if out else new_run("eval")
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "policy": {"path": str(policy), "version": loaded.version},
        "settings": {
            "seed": seed,
            "replan_steps": replan_steps,
            "combine": combine,
            "latency_s": latency_s,
        },
        "machine": machine(),
        "success": {"value": successes / episodes, "n": episodes, "low": low, "high": high},
        "failures": dict(failures),
        "episodes": [asdict(r) for r in results],
    }
    (folder / "summary.json").write_text(json.dumps(record) + "\n")
    share = successes / episodes
    typer.echo(
        f"success {successes}/{episodes} = {share:.2f} ({low:.2f} to {high:.2f}, Wilson 95 %)"
    )
    for cause, count in failures.most_common():
        typer.echo(f"  {count} × failed at {cause}")
    typer.echo(f"written: {folder / 'summary.json'}")
