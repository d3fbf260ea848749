"""`rewact learn`: fine-tune a policy by reinforcement learning with a human at hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from rewact_ros.learning.rl.settings import RLSettings

_SHOWN = {
    "success": "success (verdicts, last 20)",
    "interventions": "interventions per episode",
    "human_share": "share of time led by the human",
    "duration_s": "last episode, s",
    "robot_min": "robot time, min",
    "q": "Q",
    "calibration_gap": "Q less return",
    "entropy": "entropy",
    "bc_weight": "weight of imitation",
    "actor_share": "share of decisions by the actor",
    "updates": "updates",
    "updates_per_s": "updates/s",
    "online_steps": "online buffer, steps",
    "demo_steps": "demo buffer, steps",
    "validation_success": "validation success (truth)",
}


def learn(
    sim: Annotated[bool, typer.Option("--sim", help="Learn in simulation.")] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="In one process, without ROS, as fast as it goes.")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="Checkpoint of the base policy (default: the shipped one).")
    ] = None,
    demos: Annotated[
        str, typer.Option(help="LeRobotDataset of successes to learn from too ('': none).")
    ] = "",
    demo_episodes: Annotated[int, typer.Option(min=1, help="How many of its successes.")] = 30,
    algorithm: Annotated[str, typer.Option(help="residual, act_sac or q_chunking.")] = "residual",
    config: Annotated[
        Path | None, typer.Option(help="JSON file of settings instead, e.g. config/learn/*.json.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting NAME=VALUE, e.g. residual_bound=0.03; may repeat."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=0, help="Episodes of the run.")] = 200,
    first_seed: Annotated[int, typer.Option(min=0, help="Scene of the first episode.")] = 50_000,
    interventions: Annotated[bool, typer.Option(help="Let the scripted human help.")] = True,
    completion: Annotated[float, typer.Option(help="Level of progress that counts as done.")] = 0.9,
    limit_s: Annotated[float, typer.Option(help="Time-out of an episode.")] = 20.0,
    eval_every: Annotated[
        int, typer.Option(min=0, help="Episodes between evaluations; 0: none.")
    ] = 50,
    eval_episodes: Annotated[int, typer.Option(min=1, help="Scenes of an evaluation.")] = 20,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    wandb: Annotated[
        str | None, typer.Option(help="Log to this Weights & Biases project too.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder (default: runs/<time>-learn).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Improve a policy by reinforcement learning; a killed run goes on with --resume."""
    if not (sim and fast):
        raise ValueError("learn: give --sim --fast; other ways of running are not built yet")
    if resume and out is None:
        raise ValueError("--resume needs --out, the folder of the run to go on with")
    from rich.live import Live

    from rewact_ros.bringup import default_contract, default_policy
    from rewact_ros.learning.rl.environment import EpisodeSettings
    from rewact_ros.learning.rl.loop import FastLoop, LearnSettings
    from rewact_ros.runs import new_run
    from rewact_ros.sim.scripted_human import Traits

    settings = LearnSettings(
        out=str(out or new_run("learn")),
        policy=str(policy or default_policy()),
        contract=default_contract(),
        rl=_settings(algorithm, config, set_ or []),
        episode=EpisodeSettings(
            completion=completion, limit_s=limit_s, human=Traits() if interventions else None
        ),
        demos=demos,
        demo_episodes=demo_episodes,
        episodes=episodes,
        first_seed=first_seed,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        device=device,
        wandb=wandb,
    )
    with Live(_panel({}), refresh_per_second=2) as live:
        loop = FastLoop(settings, resume, lambda figures: live.update(_panel(figures)))
        loop.run()
    typer.echo(f"run: {settings.out} (best policy: best.json; TensorBoard: tensorboard/)")


def _settings(algorithm: str, config: Path | None, changes: list[str]) -> "RLSettings":
    from dataclasses import asdict

    from rewact_ros.learning.rl.settings import load_settings, parse_changes, preset

    if config is None:
        return preset(algorithm, **parse_changes(changes))
    found = asdict(load_settings(config))
    return preset(found.pop("algorithm"), **{**found, **parse_changes(changes)})


def _panel(figures: dict[str, float]) -> "Table":
    from rich.table import Table

    table = Table("figure", "now", title="rewact learn")
    for name, label in _SHOWN.items():
        if name in figures:
            table.add_row(label, f"{figures[name]:.4g}")
    return table
