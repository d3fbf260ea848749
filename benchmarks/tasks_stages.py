"""What `rewact bench tasks` does with one task, stage by stage.

Each stage leaves `STAGE.json` in the task's folder; a run that was killed goes on after the last.
"""

import json
import math
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import typer
from lerobot_training import train_seconds
from tasks_judge import (
    Measured,
    baselines,
    classifier,
    episodes,
    features_of,
    held_levels,
    judgement,
    measure,
    rates,
    succeed,
)
from tasks_recipe import CALIBRATION, CORRECTED, DEMOS, JUDGED, REPORTED, Plan
from tasks_sarm import Sarm, Seen
from tasks_scenes import (
    by_policy,
    curves,
    gather,
    judged_rollouts,
    median_frames,
    outcomes,
)

from rewact_ros.contract import Contract, load_contract
from rewact_ros.data.dataset.reader import open_dataset
from rewact_ros.episodes.demos import DemoSettings, write_demos
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.files import replace_file
from rewact_ros.learning.evaluation.calibrate import Rollouts, rollout_basis, signal_settings
from rewact_ros.learning.evaluation.film import film_dataset
from rewact_ros.learning.evaluation.scorers import PolicyScorer
from rewact_ros.learning.evaluation.settings import RolloutSource
from rewact_ros.learning.imitation.dagger import collect, read_collected, undisturbed_frames
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.learning.imitation.finetune import fine_tune
from rewact_ros.learning.imitation.reward_only import train_reward
from rewact_ros.learning.imitation.settings import TrainSettings
from rewact_ros.learning.imitation.train import train
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy
from rewact_ros.stack.bringup import default_contract
from rewact_ros.supervision.alarms import smallest_rate
from rewact_ros.supervision.calibration import CalibrationError, CalibrationSettings
from rewact_ros.supervision.conformal import calibrate

Result = dict[str, Any]
_LONGEST_S = 30.0  # an episode, however patient the plan is
_HOLD_S = 1.0  # past the success: the monitor's verdict takes a while


class StaleError(ValueError):
    """A result was made with other settings."""


@dataclass(frozen=True)
class Job:
    """One task to measure, in a folder of its own."""

    task: str
    folder: Path
    plan: Plan

    @cached_property
    def contract(self) -> Contract:
        """Of the task's robot."""
        return load_contract(self.contract_file)

    @property
    def contract_file(self) -> str:
        """Where it is."""
        return default_contract(self.task)

    @property
    def frames(self) -> Path:
        """Decoded frames; they go when the task is done."""
        return self.folder / "frames"

    @property
    def demos(self) -> Path:
        """The demonstrations."""
        return self.folder / "demos"

    @property
    def rollouts(self) -> RolloutSettings:
        """How every episode ends."""
        return RolloutSettings(limit_s=self.read("demonstrations")["limit_s"], hold_s=_HOLD_S)

    def policy(self, name: str) -> Path:
        """The checkpoint of a training in this folder."""
        return self.folder / name / "checkpoints" / "last" / "pretrained_model"

    def read(self, stage: str) -> Result:
        """Result of an earlier stage."""
        result: Result = json.loads((self.folder / f"{stage}.json").read_text())["result"]
        return result


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        run: does it; what it returns, JSON can hold.
        uses: fields of `Plan` and `Recipe` that its result depends on.
        after: stages whose results it reads.
    """

    run: Callable[[Job], Any]
    uses: tuple[str, ...]
    after: tuple[str, ...] = ()


def run_stages(job: Job) -> dict[str, str]:
    """Do what is not done yet; returns stage -> why it failed, of those that did.

    Raises:
        StaleError: results of other settings lie in the folder.
    """
    require_fresh(job)
    job.folder.mkdir(parents=True, exist_ok=True)
    faults: dict[str, str] = {}
    for name, stage in STAGES.items():
        file = job.folder / f"{name}.json"
        missing = [other for other in stage.after if other in faults]
        if file.exists():
            continue
        if missing:
            faults[name] = f"needs {missing[0]}"
            continue
        typer.echo(f"  {job.task}: {name}")
        begun = time.monotonic()
        torch.set_num_threads(1)
        try:
            result = stage.run(job)
        except Exception as error:  # whatever one task does, the others are measured
            faults[name] = " ".join(str(error).split())[:300] or type(error).__name__
            (job.folder / f"{name}.error.txt").write_text(traceback.format_exc())
            typer.echo(f"  {job.task}: {name} failed: {faults[name]}")
            continue
        document = {
            "settings": _settings(job.plan, name),
            "wall_s": round(time.monotonic() - begun, 1),
            "result": asdict(result) if is_dataclass(result) else result,
        }
        replace_file(file, json.dumps(document, indent=1) + "\n")
        (job.folder / f"{name}.error.txt").unlink(missing_ok=True)
    if not faults:
        shutil.rmtree(job.frames, ignore_errors=True)
    return faults


def _settings(plan: Plan, name: str) -> Result:
    """What a stage's result depends on, by way of earlier ones too, as JSON gives it back."""
    stage, both = STAGES[name], {**asdict(plan.recipe), **asdict(plan)}
    found = {key: both[key] for key in stage.uses}
    for other in stage.after:
        found |= _settings(plan, other)
    read: Result = json.loads(json.dumps(found))
    return read


def require_fresh(job: Job) -> None:
    """Refuse results that other settings gave.

    Raises:
        StaleError: names the first of these settings.
    """
    for name in STAGES:
        file = job.folder / f"{name}.json"
        if not file.exists():
            continue
        then, now = json.loads(file.read_text())["settings"], _settings(job.plan, name)
        for key, value in now.items():
            if then.get(key) != value:
                raise StaleError(
                    f"{file}: {key}: made with {_short(then.get(key))}, now {_short(value)}; move "
                    f"{job.folder} away, or go on with the settings of then"
                )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "…"


# 1, 2: demonstrations, the policy -----------------------------------------------------------


def demonstrations(job: Job) -> Result:
    """Successes of the task's expert."""
    if not job.demos.exists():
        shutil.rmtree(job.demos.with_name("demos.partial"), ignore_errors=True)
        settings = DemoSettings(
            job.demos,
            Path(job.contract_file),
            episodes=job.plan.demonstrations,
            failures=0,
            retries=0,
            seed=DEMOS,
            workers=1,
            task=job.task,
        )
        write_demos(settings, progress=False)
    frames = median_frames(job.demos)
    limit_s = min(math.ceil(job.plan.patience * frames / job.contract.rate_hz), _LONGEST_S)
    return {"episodes": job.plan.demonstrations, "median_frames": frames, "limit_s": limit_s}


def training(job: Job) -> Result:
    """The policy, and one of fewer steps that fails."""
    recipe, seconds = job.plan.recipe, {}
    for name, steps in (("policy", recipe.training.steps), ("weak", recipe.weak_steps)):
        settings = replace(
            recipe.training,
            dataset=str(job.demos),
            out=str(job.folder / name),
            contract=job.contract_file,
            steps=steps,
        )
        seconds[name] = _trained(job, settings)
    return {"seconds": seconds["policy"], "weak_seconds": seconds["weak"]}


def _trained(job: Job, settings: TrainSettings) -> float:
    """Train, or go on; returns the seconds that the steps took."""
    train(settings, job.frames, resume=True, show_progress=False)
    finished = Path(settings.out) / "checkpoints" / "last" / "pretrained_model"
    return float(json.loads((finished / "training.json").read_text())["wall_s"])


def success(job: Job) -> Result:
    """The policy on unseen scenes: outcomes, reward curves, and films of the first of each."""
    found = _driven(job, load_policy(job.policy("policy"), "cpu"))
    dataset = _reported(job)
    films = {}
    for word in ("success", "failure"):
        first = next((k for k, o in enumerate(found) if o.success is (word == "success")), None)
        if first is not None:
            path = job.folder / f"{word}.mp4"
            loaded = load_policy(job.policy("policy"), "cpu")
            film_dataset(open_dataset(dataset), first, loaded, path)
            films[word] = path.name
    return {
        "success": asdict(Measured.of(sum(o.success for o in found), len(found))),
        "episodes": [asdict(outcome) for outcome in found],
        "films": films,
        "curves": list(curves(dataset)),
    }


def _reported(job: Job) -> Path:
    return job.folder / "reported" / "policy"


def _driven(job: Job, loaded: LoadedPolicy, out: Path | None = None, count: int = 0) -> Any:
    """The reported scenes, or the first of them, driven by a policy."""
    seeds = range(REPORTED, REPORTED + (count or job.plan.scenes))
    place = out or _reported(job)
    return by_policy(loaded, job.contract, seeds, job.rollouts, place, job.task)


# 3, 4: the judge ----------------------------------------------------------------------------


def judge(job: Job) -> Result:
    """The reward that successes alone taught, beside clock and joints."""
    gathered = _gathered(job, "reported", REPORTED, job.plan.scenes)
    measured = measure(load_policy(job.policy("policy"), "cpu"), gathered.datasets, job.frames)
    found = {"reward": judgement([e.held for e in measured], succeed(measured))}
    found |= baselines(job.demos, gathered.datasets)
    return {"gathered": asdict(gathered), "judges": {k: asdict(v) for k, v in found.items()}}


def sarm(job: Job) -> Result:
    """LeRobot's reward model, taught by the same demonstrations, on the same roll-outs."""
    loaded = load_policy(job.policy("policy"), "cpu")
    demos, taught = measure(loaded, [job.demos], job.frames), load_demonstrations(job.demos)
    known = [
        Seen(features_of(episode), taught.state[rows], taught.reward[rows])
        for index, episode in enumerate(demos)
        for rows in [taught.rows([index])]
    ]
    begun = time.monotonic()
    judge = Sarm(known, job.plan.recipe.sarm, job.contract.rate_hz)
    seconds = time.monotonic() - begun
    datasets = _gathered(job, "reported", REPORTED, job.plan.scenes).datasets
    measured = measure(loaded, datasets, job.frames)
    states = [data.state[rows] for data, rows in episodes(datasets)]
    held = [
        held_levels(judge.judge(Seen(features_of(episode), state)), job.contract.rate_hz)
        for episode, state in zip(measured, states, strict=True)
    ]
    return {"seconds": round(seconds, 1), "judge": asdict(judgement(held, succeed(measured)))}


def verdicts(job: Job) -> Result:
    """The reward after judged roll-outs, the classifier on the same, and calibrated rates."""
    plan, weak = job.plan, load_policy(job.policy("weak"), "cpu")
    scenes = job.contract, job.task, job.rollouts
    judged = judged_rollouts(weak, *scenes, job.folder / "judged", JUDGED, plan.judged)
    begun = time.monotonic()
    taught = train_reward(
        replace(
            plan.recipe.reward,
            policy=str(job.policy("policy")),
            demos=str(job.demos),
            judged=tuple(map(str, judged)),
            out=str(_judging(job)),
        ),
        job.frames,
        show_progress=False,
    )
    seconds = time.monotonic() - begun
    gathered = _gathered(job, "reported", REPORTED, plan.scenes)
    loaded = load_policy(_judging(job), "cpu")
    measured = measure(loaded, gathered.datasets, job.frames)
    settings = replace(
        plan.recipe.classifier,
        datasets=tuple(map(str, (job.demos, *judged))),
        out=str(job.folder / "classifier"),
    )
    return {
        "judged": {key: taught[key] for key in ("successes", "failures")},
        "seconds": round(seconds, 1),
        "judges": {
            "reward": asdict(judgement([e.held for e in measured], succeed(measured))),
            "classifier": asdict(classifier(settings, gathered.datasets, job.frames)),
        },
        "supervisor": _supervisor(job, loaded, measured),
    }


def _judging(job: Job) -> Path:
    """The policy with the reward that verdicts taught."""
    return job.folder / "judging"


def _gathered(job: Job, part: str, first: int, scenes: int) -> Any:
    policy, weak = (load_policy(job.policy(name), "cpu") for name in ("policy", "weak"))
    settings = job.contract, job.task, job.rollouts
    return gather(policy, weak, *settings, job.folder / part, first, scenes, job.plan.least)


def _supervisor(job: Job, loaded: LoadedPolicy, measured: list[Any]) -> Result:
    """Thresholds from scenes for choosing, their errors on those reported."""
    gathered = _gathered(job, "calibration", CALIBRATION, job.plan.calibrated)
    sources = [RolloutSource(folder, cache=job.frames) for folder in gathered.datasets]
    for source in sources:
        Rollouts(source).require_untaught(loaded.path)
    known = measure(loaded, gathered.datasets, job.frames)
    asked = supported(job.plan.recipe.rates, int(succeed(known).sum()))
    basis = rollout_basis(PolicyScorer(loaded), sources[0])
    try:
        calibration = calibrate(known, signal_settings(loaded), basis, asked)
    except CalibrationError as error:
        return {"gathered": asdict(gathered), "rates": None, "why": str(error)}
    return {
        "gathered": asdict(gathered),
        "beta": asked.beta,
        "alpha": asked.alpha,
        "completion": calibration.completion.threshold,
        "rates": asdict(rates(measured, calibration)),
    }


def supported(asked: CalibrationSettings, successes: int) -> CalibrationSettings:
    """These rates; where so few successes support no such α, the smallest that they do support."""
    left = successes - math.ceil(asked.fit_fraction * successes)
    least = math.ceil(1000 * Fraction(1, left + 1) / smallest_rate(Fraction(1))) / 1000
    return replace(asked, alpha=max(asked.alpha, least)) if least < 1 else asked


# 5, 6: corrections, LeRobot's ACT -----------------------------------------------------------


def correction(job: Job) -> Result:
    """One round of HG-DAgger: the judging reward calls the scripted human, and judges by its
    calibrated threshold."""
    plan, folder = job.plan, job.folder / "correction"
    base, dataset = _judging(job), folder / "interventions"
    before = outcomes(_reported(job))[: plan.corrected_scenes]
    if not dataset.exists():
        shutil.rmtree(dataset.with_name(dataset.name + ".partial"), ignore_errors=True)
        seeds = range(CORRECTED, CORRECTED + plan.corrected)
        completion = job.read("verdicts")["supervisor"].get("completion")
        settings = replace(plan.recipe.help, limit_s=job.rollouts.limit_s)
        if completion is not None:
            settings = replace(settings, completion=completion)
        nominal = undisturbed_frames(load_demonstrations(job.demos))
        loaded = load_policy(base, "cpu")
        for _ in collect(loaded, job.contract, seeds, settings, dataset, nominal, job.task):
            pass
    collected = read_collected(dataset)
    found: Result = {
        "interventions": sum(e.interventions for e in collected),
        "human_s": round(sum(e.human_s for e in collected), 1),
        "before": asdict(Measured.of(sum(o.success for o in before), len(before))),
    }
    if not any(e.interventions and e.success for e in collected):
        return found | {"after": None, "why": "nobody was called who could help: nothing to learn"}
    settings = replace(
        plan.recipe.correction,
        dataset=str(job.demos),
        out=str(folder / "train"),
        start=str(base),
        interventions=(str(dataset),),
        contract=job.contract_file,
    )
    new = fine_tune(settings, job.frames, resume=True, show_progress=False)
    after = _driven(job, load_policy(new, "cpu"), folder / "after", len(before))
    return found | {"after": asdict(Measured.of(sum(o.success for o in after), len(after)))}


def act(job: Job) -> Result:
    """LeRobot's ACT on the same demonstrations, wall time and scenes."""
    seconds = job.read("training")["seconds"]
    run = train_seconds(job.demos, job.folder / "act", seconds, job.plan.recipe.act)
    contract = {"hash": job.contract.hash, "signature": job.contract.signature()}
    loaded = replace(load_policy(run.policy, "cpu"), contract=contract)
    found = _driven(job, loaded, job.folder / "act" / "reported")
    reached = Measured.of(sum(o.success for o in found), len(found))
    return {"run": asdict(run), "success": asdict(reached)}


STAGES = {
    "demonstrations": Stage(demonstrations, ("demonstrations", "patience")),
    "training": Stage(training, ("training", "weak_steps"), ("demonstrations",)),
    "success": Stage(success, ("scenes",), ("training",)),
    "judge": Stage(judge, ("least",), ("success",)),
    "sarm": Stage(sarm, ("sarm",), ("judge",)),
    "verdicts": Stage(
        verdicts, ("judged", "reward", "classifier", "rates", "calibrated"), ("judge",)
    ),
    "correction": Stage(
        correction, ("corrected", "corrected_scenes", "correction", "help"), ("verdicts",)
    ),
    "act": Stage(act, ("act",), ("success",)),
}
