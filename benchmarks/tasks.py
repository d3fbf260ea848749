"""Figures on tasks that others designed: the policy, its judge, corrections, and LeRobot's ACT.

One recipe for all tasks (`tasks_recipe.py`), one thread for each. A run takes about an hour a task;
one that was killed goes on where it was, in `runs/bench/tasks`. `--only TASK,TASK` measures some,
and the table has all that were measured, there and by the same plan in the published table, so that
no machine needs to measure all; `--workers 2` measures two side by side.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from tasks_recipe import FULL, Plan, quick
from tasks_stages import STAGES, Job, require_fresh, run_stages

from rewact_ros.bench.figures import Bench, Figure
from rewact_ros.share import share_dir
from rewact_ros.sim.task import TaskError, find_task
from rewact_ros.workers import begin_worker

PARTS = SIDE_BY_SIDE = True
# Name -> the success that is asked of it; "": none. `reach` is the example's, a package of its own.
TASKS = {
    "pick_place": "",
    "metaworld/drawer-open-v3": "≥ 0.95",
    "metaworld/door-open-v3": "≥ 0.95",
    "metaworld/push-v3": "≥ 0.95",
    "metaworld/pick-place-v3": "≥ 0.8",
    "metaworld/peg-insert-side-v3": "",
    "aloha/transfer-cube": "≥ 0.86",
    "aloha/insertion": "≥ 0.32",
    "hil/panda-pick-cube": "≥ 0.9",
    "so101/pick-cube": "≥ 0.9",
    "reach": "",
}
QUICK_TASK = "pick_place"
AUC_ALONE, AUC_JUDGED = "AUC, successes alone", "AUC, 20 verdicts"
SUCCESS, ACT = "success", "LeRobot's ACT"
_PLAN = "plan"  # setting that names it
_GOALS = {
    AUC_ALONE: "≥ 0.9",
    "failures crossing 0.9": "≤ 0.1",
    AUC_JUDGED: "≥ 0.97",
    "detection": "≥ 0.9",
    "failures with an alarm": "≥ 0.9",
}


def run(bench: Bench) -> None:
    """Measure the tasks that are installed, and add a row for each that has results.

    Raises:
        ValueError: `only` names a task that there is not.
        StaleError: results of another plan lie there.
    """
    plan = quick() if bench.quick else FULL
    folder = bench.folder / ("tasks-quick" if bench.quick else "tasks")
    if bench.quick:
        shutil.rmtree(folder, ignore_errors=True)
    names = bench.only or ((QUICK_TASK,) if bench.quick else tuple(TASKS))
    missing = {name: why for name in names if (why := _missing(name))}
    unknown = [name for name in bench.only if name in missing and name not in TASKS]
    if unknown:
        raise ValueError(f"bench tasks: --only {unknown[0]}: {missing[unknown[0]]}")
    for name, why in missing.items():
        typer.echo(f"  {name}: not installed, left out: {why}")
    there = [name for name in names if name not in missing]
    every = [name for name in (*TASKS, *there) if name in there or _folder(folder, name).exists()]
    jobs = {name: Job(name, _folder(folder, name), plan) for name in every}
    for job in jobs.values():  # before hours of work; a table is of one plan
        require_fresh(job)
    faults = _measure([jobs[name] for name in there], bench.workers)
    bench.settings |= {
        "demonstrations": plan.demonstrations,
        "training": f"{plan.recipe.training.steps} steps of {plan.recipe.training.batch_size}",
        "judged roll-outs": plan.judged,
        "beta": plan.recipe.rates.beta,
        "threads": 1,
        _PLAN: plan_hash(plan),
        "not installed": ", ".join(missing) or "none",
        "failed": faults or "none",
    }
    published = share_dir() / "docs" / "results" / "tasks.json"
    report(bench, folder, jobs, {} if bench.quick else published_rows(published, plan))


def _missing(name: str) -> str:
    """Why a task cannot be measured here; "": it can."""
    try:
        find_task(name)
    except TaskError as error:
        return str(error)
    return ""


def _folder(root: Path, name: str) -> Path:
    return root / name.replace("/", "-")


def _measure(jobs: list[Job], workers: int) -> dict[str, str]:
    """Measure each in a process of its own; returns what failed, and why."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch of these processes reads it
    faults: dict[str, str] = {}
    # Spawned, as OpenGL and torch do not survive a fork; anew for each, so that none inherits the
    # memory of another.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, begin_worker, max_tasks_per_child=1) as pool:
        running = {pool.submit(run_stages, job): job.task for job in jobs}
        for done in as_completed(running):
            for stage, why in done.result().items():
                faults[f"{running[done]}: {stage}"] = why
    return faults


# The table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of a table that is published.

    Attributes:
        figures: by column.
        gathered: whose roll-outs its judge was judged on.
    """

    figures: dict[str, Figure]
    gathered: str


def plan_hash(plan: Plan) -> str:
    """Name of all that a table's rows share."""
    return hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode()).hexdigest()[:16]


def published_rows(file: Path, plan: Plan) -> dict[str, Row]:
    """Rows of a table, by task; of another plan's table, or where there is none, none."""
    if not file.is_file():
        return {}
    document = json.loads(file.read_text())
    settings, figures = document["settings"], document["figures"]
    if settings.get(_PLAN) != plan_hash(plan):
        typer.echo(f"  {file}: its rows are of another plan, left out")
        return {}
    rows = {}
    for name in settings["grid"]["rows"]:
        known = {c: figures.get(f"{name}: {c}") for c in settings["grid"]["columns"]}
        cells = {column: Figure(**figure) for column, figure in known.items() if figure}
        rows[name] = Row(cells, settings.get(name, ""))
    return rows


def report(
    bench: Bench, root: Path, names: Collection[str], published: Mapping[str, Row] | None = None
) -> None:
    """Add the figures of every task that has results, and how many tasks reach what is asked."""
    rows, columns, earlier = [], {}, published or {}
    ordered = dict.fromkeys((*TASKS, *names, *earlier))
    for name in (name for name in ordered if name in earlier or name in names):
        results = _results(_folder(root, name))
        if name in earlier and len(results) < len(STAGES):  # a part does not replace the whole
            figures, gathered = earlier[name].figures, earlier[name].gathered
            bench.figures |= {f"{name}: {column}": figure for column, figure in figures.items()}
        elif results:
            figures, gathered = {}, _gathered(results)
            for column, value, more in _figures(name, results):
                figures[column] = None
                bench.add(f"{name}: {column}", value, **more)
        else:
            continue
        rows.append(name)
        columns |= dict.fromkeys(figures)
        if gathered:
            bench.settings[name] = gathered
    bench.settings["grid"] = {"rows": rows, "columns": list(columns)}
    for column, goal, least in ((AUC_ALONE, 0.9, 6), (AUC_JUDGED, 0.97, 7)):
        found = _values(bench, rows, column)
        reached = sum(value >= goal for value in found.values())
        _add_share(bench, f"tasks with {column} ≥ {goal:g}", reached, found, f"≥ {least} of 8")
    ours, theirs = (_values(bench, rows, column) for column in (SUCCESS, ACT))
    both = ours.keys() & theirs.keys()
    kept = sum(ours[row] >= theirs[row] for row in both)
    _add_share(bench, "tasks on which success is at least ACT's", kept, both, "1")


def _values(bench: Bench, rows: list[str], column: str) -> dict[str, float]:
    """What is known of a column, by task."""
    found = {row: bench.figures.get(f"{row}: {column}") for row in rows}
    return {row: f.value for row, f in found.items() if f is not None and f.value is not None}


def _add_share(bench: Bench, name: str, count: int, of: Collection[str], goal: str) -> None:
    if of:
        bench.add(name, count / len(of), "share", n=len(of), goal=goal)


def _results(folder: Path) -> dict[str, dict[str, Any]]:
    """Result of each stage that is done."""
    files = {stage: folder / f"{stage}.json" for stage in STAGES}
    return {s: json.loads(f.read_text())["result"] for s, f in files.items() if f.exists()}


def _figures(
    name: str, results: dict[str, dict[str, Any]]
) -> Iterable[tuple[str, float | None, dict[str, Any]]]:
    """Column, value, and unit, goal, n and interval of a task's cells, in the table's order."""

    def cell(column: str, figure: dict[str, Any] | None, goal: str = "") -> Any:
        known = figure or {"value": None, "n": 0, "low": None, "high": None}
        more = {key: known[key] for key in ("n", "low", "high")}
        goal = goal or _GOALS.get(column, "")
        return column, known["value"], {"unit": "share", "goal": goal, **more}

    if found := results.get("success"):
        yield cell(SUCCESS, found["success"], TASKS.get(name, ""))
    if found := results.get("training"):
        yield "training", found["seconds"] / 60, {"unit": "min"}
    if found := results.get("act"):
        yield cell(ACT, found["success"])
        yield "ACT's training", found["run"]["seconds"] / 60, {"unit": "min"}
    if found := results.get("judge"):
        judges = found["judges"]
        yield cell(AUC_ALONE, judges["reward"]["auc"])
        yield cell("failures crossing 0.9", judges["reward"]["crossed"])
        yield cell("AUC, clock", judges["clock"]["auc"])
        yield cell("AUC, joints", judges["joints"]["auc"])
    if found := results.get("sarm"):
        yield cell("AUC, SARM", found["judge"]["auc"])
        yield cell("SARM: failures crossing 0.9", found["judge"]["crossed"])
    if found := results.get("verdicts"):
        judges, supervisor = found["judges"], found["supervisor"]
        yield cell(AUC_JUDGED, judges["reward"]["auc"])
        yield cell("AUC, classifier", judges["classifier"]["auc"])
        if rates := supervisor["rates"]:
            beta = f"≤ {supervisor['beta']:g} (β)"
            yield cell("false completions", rates["false_completions"], beta)
            yield cell("detection", rates["detected"])
            yield cell("failures with an alarm", rates["alarmed"])
    if found := results.get("correction"):
        yield cell("before a correction round", found["before"])
        yield cell("after it", found["after"])


def _gathered(results: dict[str, dict[str, Any]]) -> str:
    """Whose successes and failures a task's judge was judged on."""
    if "judge" not in results:
        return ""
    found = results["judge"]["gathered"]
    words = [
        f"{who} {found['successes'][who]} + {found['failures'][who]}" for who in found["sources"]
    ]
    supervisor = results.get("verdicts", {}).get("supervisor", {})
    alpha = f"; α {supervisor['alpha']:g}" if supervisor.get("rates") else ""
    return f"successes + failures of {', '.join(words)}{alpha}"
