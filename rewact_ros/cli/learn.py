"""`rewact learn`: fine-tune a policy by reinforcement learning with a human at hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.learning.rl.run_settings import LearnSettings, RunSettings, SimEpisodeSettings
from rewact_ros.ros.params import LearnerParams
from rewact_ros.stack.arguments import BringUp
from rewact_ros.trials.replacement import ReplacementSettings

if TYPE_CHECKING:
    from rewact_ros.learning.rl.settings import RLSettings


@with_options
def learn(
    sim: Annotated[bool, typer.Option("--sim", help="Learn in simulation.")] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="In one process, without ROS, as fast as it goes.")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="Checkpoint of the base policy (default: the shipped one).")
    ] = None,
    algorithm: Annotated[str, typer.Option(help="residual, act_sac or q_chunking.")] = (
        LearnerParams.algorithm
    ),
    config: Annotated[
        Path | None, typer.Option(help="JSON file of settings instead, e.g. config/learn/*.json.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting NAME=VALUE, e.g. residual_bound=0.03; may repeat."),
    ] = None,
    *,
    shared: Annotated[dict[str, Any], OptionsOf(RunSettings, but=("save_every_s", "wandb"))],
    looped: Annotated[
        dict[str, Any],
        OptionsOf(
            LearnSettings,
            only=(
                "episodes",
                "environment_episodes",
                "first_seed",
                "eval_every",
                "eval_episodes",
                "eval_most",
                "wandb",
                "task",
            ),
        ),
    ],
    tested: Annotated[dict[str, Any], OptionsOf(ReplacementSettings)],
    interventions: Annotated[bool, typer.Option(help="Let the scripted human help.")] = True,
    ended: Annotated[
        dict[str, Any],
        OptionsOf(SimEpisodeSettings, but=("stall_s", "drawdown", "hold_s")),
    ],
    reward: Annotated[
        Path | None, typer.Option(help="JSON file of how the classifier's reward enters.")
    ] = None,
    publish_every: Annotated[
        int, typer.Option(min=1, help="Over topics: episodes from one version to the next.")
    ] = LearnerParams.publish_every,
    contract: Annotated[
        Path | None, typer.Option(help="Robot contract (default: of the simulated arm).")
    ] = None,
    speed: Annotated[
        float, typer.Option(help="Over topics: simulated seconds per second.")
    ] = BringUp.real_time_factor,
    out: Annotated[Path | None, typer.Option(help="Folder (default: runs/<time>-learn).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    verbose: Annotated[bool, typer.Option(help="Show the log of the nodes.")] = False,
) -> None:
    """Improve a policy by reinforcement learning; a killed run goes on with --resume."""
    if fast and not sim:
        raise ValueError("--fast needs --sim: only the simulation runs in this process")
    if resume and out is None:
        raise ValueError("--resume needs --out, the folder of the run to go on with")
    if not (sim or contract):
        raise ValueError("give --contract of the robot that runs, or --sim for the simulated one")
    from rewact_ros.runs import new_run, require_writable
    from rewact_ros.stack.bringup import default_contract, default_policy

    require_writable(out)
    shared |= {
        "out": str(out or new_run("learn")),
        "policy": str(policy or default_policy(looped["task"])),
        "contract": str(contract or default_contract(looped["task"])),
    }
    rl = _settings(algorithm, config, set_ or [], sim)
    from rewact_ros.learning.rl.run import follow
    from rewact_ros.learning.rl.team import follows

    if follows():
        return follow(RunSettings(**shared, rl=rl))
    from rewact_ros.learning.rl.reward_judge import load_reward
    from rewact_ros.sim.human import Traits

    episode = SimEpisodeSettings(
        human=Traits() if interventions else None,
        reward=load_reward(reward) if reward else None,
        **ended,
    )
    if fast:
        fast_settings = LearnSettings(
            **shared,
            rl=rl,
            episode=episode,
            replacement=ReplacementSettings(**tested),
            **looped,
        )
        _in_process(fast_settings, resume)
    else:
        from rewact_ros.stack.learner import SimulatedRobot, learn_over_topics

        _check_judges(sim, episode, looped["environment_episodes"], shared["contract"])
        folder = Path(shared["out"])
        learner = {
            **shared,
            "settings": _written(rl, folder, resume),
            "publish_every": publish_every,
            "completion": episode.completion,
            "wandb": looped["wandb"] or "",
        }
        robot = SimulatedRobot(
            looped["episodes"], looped["first_seed"], episode, speed, looped["task"]
        )
        with _panel() as show:
            learn_over_topics(folder, learner, robot if sim else None, show, verbose)
    typer.echo(f"run: {shared['out']} (versions: policies/; TensorBoard: tensorboard/)")


def _check_judges(
    sim: bool, episode: SimEpisodeSettings, environment_episodes: int, contract: str
) -> None:
    """Over topics the supervisor judges, with or without a classifier.

    Raises:
        LearnError: what only the fast path has, or a classifier that cannot be used.
    """
    from rewact_ros.contract import load_contract
    from rewact_ros.learning.rl.reward_judge import open_classifier
    from rewact_ros.learning.rl.settings import LearnError

    if episode.reward or environment_episodes or episode.success_by == "environment":
        raise LearnError(
            "--reward, --environment-episodes and --success-by environment need --sim --fast: over "
            "topics only a success earns, and the supervisor judges it"
        )
    if not episode.classifier:
        return
    if not sim:
        raise LearnError(
            "--classifier: the robot's supervisor judges; give it to `rewact up --success-model`"
        )
    open_classifier(episode.classifier, load_contract(contract), "cpu")


def _in_process(settings: LearnSettings, resume: bool) -> None:
    from rewact_ros.learning.rl.loop import FastLoop

    with _panel() as show:
        FastLoop(settings, resume, show).run()


@contextmanager
def _panel() -> Iterator[Callable[..., None]]:
    """The live panel; gives the call that shows figures, and a line above them."""
    from rich.live import Live

    from rewact_ros.cli.learn_panel import panel

    with Live(panel({}), refresh_per_second=2) as live:
        yield lambda figures, text="": live.update(panel(figures, text))


def _written(settings: "RLSettings", folder: Path, resume: bool) -> str:
    """The settings as a file in the run's folder, which the learner reads."""
    from rewact_ros.learning.rl.settings import LearnError, settings_text

    if (folder / "journal").exists() and not resume:
        raise LearnError(f"{folder}: holds a run; go on with it by --resume, or give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "settings.json"
    file.write_text(settings_text(settings))
    return str(file)


def _settings(algorithm: str, config: Path | None, changes: list[str], sim: bool) -> "RLSettings":
    from dataclasses import asdict

    from rewact_ros.learning.rl.settings import load_settings, parse_changes, preset

    told = parse_changes(changes)
    # A real arm goes no faster than it was taught unless somebody says so.
    usual: dict[str, object] = {} if sim else {"speeds": [1.0]}
    if config is None:
        return preset(algorithm, **usual | told)
    found = asdict(load_settings(config, usual))
    return preset(found.pop("algorithm"), **{**found, **told})
