"""`rewact eval`: a policy in the simulation, on recorded episodes or in a Gymnasium environment."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, TaskName, with_options
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.learning.evaluation.settings import EnvSettings, EvaluationSettings, as_mapping
from rewact_ros.sim.task import DEFAULT_TASK

if TYPE_CHECKING:
    from rewact_ros.policy.checkpoint import LoadedPolicy
    from rewact_ros.reward.judge_check import JudgeCheck

_SIM_EPISODES = 50


@with_options
def evaluate(
    policy: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    dataset: Annotated[
        Path | None, typer.Option(help="Judge it on this LeRobotDataset instead of in simulation.")
    ] = None,
    env: Annotated[
        str, typer.Option(help="Judge it in a Gymnasium environment: module:factory or id.")
    ] = "",
    episodes: Annotated[
        str, typer.Option(help="How many (default 50); of a dataset which, e.g. 24:30.")
    ] = "",
    seed: Annotated[
        int, typer.Option(min=0, help="First scene; from 200000: reported figures.")
    ] = 100_000,
    *,
    driven: Annotated[dict[str, Any], OptionsOf(RolloutSettings)],
    record: Annotated[
        Path | None, typer.Option(help="Write the driven episodes as a new dataset.")
    ] = None,
    judged: Annotated[dict[str, Any], OptionsOf(EvaluationSettings)],
    in_env: Annotated[dict[str, Any], OptionsOf(EnvSettings)],
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="FEATURE=KEY: where --env shows an input of the policy; repeatable."
        ),
    ] = None,
    videos: Annotated[
        bool, typer.Option("--videos", help="Film every episode in --env, with its reward.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder (default: runs/<time>-eval).")] = None,
    task: TaskName = DEFAULT_TASK,
) -> None:
    """Report a policy's successes, and how well its reward tells how far the task has come."""
    if dataset is not None and env:
        raise ValueError("give --dataset or --env, or neither for the simulation; not both")
    if record is not None and dataset is not None:
        raise ValueError("--record: these episodes are recorded already; leave --dataset out")
    from rewact_ros.policy.checkpoint import load_policy
    from rewact_ros.runs import new_run, require_writable

    require_writable(out, *([record] if record is not None else []))
    settings = RolloutSettings(**driven)
    meeting = EnvSettings(**in_env, mapping=as_mapping(map_ or []))
    count = _SIM_EPISODES if dataset is not None else _count(episodes)
    loaded = load_policy(policy, device)
    if dataset is not None:
        chosen = EvaluationSettings(dataset, episodes, **judged)
        _on_dataset(loaded, chosen, out or new_run("eval"))
    elif env:
        from rewact_ros.learning.evaluation.dataset import judge_summary
        from rewact_ros.learning.evaluation.gym_rollout import evaluate_env
        from rewact_ros.learning.evaluation.judging import check_rewards

        folder = out or new_run("eval")
        film = folder / "videos" if videos else None
        result = evaluate_env(loaded, env, count, seed, meeting, film, record)
        # An episode of which the environment said nothing judges no judge.
        said = [episode for episode in result["episodes"] if episode["success"] is not None]
        progress, succeeds = ([e[key] for e in said] for key in ("progress", "success"))
        check = check_rewards(progress, succeeds, result["settings"]["rate_hz"]) if said else None
        result["judge"] = judge_summary(check)
        _write(folder, result)
        _echo_env(result, record)
        _echo_judge(policy, check)
    else:
        _in_simulation(loaded, range(seed, seed + count), settings, record, out, task)


def _in_simulation(
    loaded: "LoadedPolicy",
    seeds: range,
    settings: RolloutSettings,
    record: Path | None,
    out: Path | None,
    task: str,
) -> None:
    """Successes with a Wilson interval, the stage reached and the cause of each failure."""
    from rewact_ros.learning.evaluation.simulated import evaluate_simulation
    from rewact_ros.runs import new_run

    figures, check = evaluate_simulation(loaded, task, seeds, settings, record)
    header = _header(loaded, {"task": task, "seed": seeds.start, **asdict(settings)})
    _write(out or new_run("eval"), header | figures)
    _echo_success(figures["success"])
    for cause, count in figures["failures"].items():
        typer.echo(f"  {count} × failed at {cause}")
    _echo_judge(loaded.path, check)
    if record is not None:
        typer.echo(f"recorded: {record}")


def _on_dataset(loaded: "LoadedPolicy", settings: EvaluationSettings, folder: Path) -> None:
    from rewact_ros.learning.evaluation.dataset import POLICY, evaluate_dataset
    from rewact_ros.learning.evaluation.report import write_report

    evaluation = evaluate_dataset(loaded, settings)
    shown = {key: str(value) for key, value in asdict(settings).items() if value not in ("", None)}
    files = write_report(folder, evaluation, _header(loaded, shown))
    for name, judged in evaluation.reward.items():
        figures = judged.figures
        area = figures["roc_auc"].value
        typer.echo(
            f"  {name}: MAE {figures['mae'].value:.3f}"
            + (f", ROC-AUC {area:.3f}" if area == area else "")
            + f", VOC on successes {figures['voc_success'].value:.2f}"
        )
    _echo_judge(loaded.path, evaluation.check)
    for name, error in evaluation.actions.items():
        typer.echo(f"  action L1, {'policy' if name == POLICY else name}: {error.mean:.4f}")
    typer.echo(f"written: {', '.join(map(str, files))}")


def _count(text: str) -> int:
    """Number of episodes to drive."""
    if not text:
        return _SIM_EPISODES
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"--episodes: expected how many, such as 50, got {text!r}; "
            "a range such as 24:30 chooses episodes of a --dataset"
        )
    return int(text)


def _header(loaded: "LoadedPolicy", settings: dict[str, Any]) -> dict[str, Any]:
    from rewact_ros.runs import machine

    return {
        "policy": {"path": str(loaded.path), "version": loaded.version},
        "settings": settings,
        "machine": machine(),
    }


def _write(folder: Path, document: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(document) + "\n")
    typer.echo(f"written: {folder / 'summary.json'}")


def _echo_env(result: dict[str, Any], record: Path | None) -> None:
    success = result["success"]
    if not result["seeded"]:
        typer.echo("the environment's scenes do not follow the seed: another run sees others")
    if success["value"] is None:
        typer.echo(
            f"success unknown in {success['unknown']} episodes: the environment does not say; name "
            "what it calls success by --success-key"
        )
    else:
        _echo_success(success)
    if record is not None:
        typer.echo(f"recorded: {record}")


def _echo_success(success: dict[str, Any]) -> None:
    n = success["n"]
    typer.echo(
        f"success {round(success['value'] * n)}/{n} = {success['value']:.2f} "
        f"({success['low']:.2f} to {success['high']:.2f}, Wilson 95 %)"
    )


def _echo_judge(policy: Path, check: "JudgeCheck | None") -> None:
    """Say whether the reward is a judge, and how to make one of it."""
    for line in [] if check is None else check.report(str(policy)):
        typer.echo(f"  {line}")
