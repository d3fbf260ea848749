"""The fast path: simulation, human, monitor and learner in one process, without ROS."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rewact_ros.contract import load_contract
from rewact_ros.episodes.dataset import check_contract
from rewact_ros.episodes.rollout_dataset import simulation
from rewact_ros.files import point, replace_file
from rewact_ros.runs import BEST, VERSIONS
from rewact_ros.sim.task import Task, find_task
from rewact_ros.trials.replacement import try_replacement

from .driver import Driver
from .environment import Acting, EpisodeResult, SimEpisode
from .figures import RECENT
from .reward_judge import open_classifier
from .run import LearningRun
from .run import new_agent as new_agent
from .run_settings import LearnSettings, SimEpisodeSettings
from .transitions import Transition, TransitionBuilder
from .updates import write_update

_RESULTS, _BEST = "episodes.jsonl", "best.json"


class FastLoop:
    """One run, see ``LearningRun``.

    Args:
        settings: of the run.
        resume: go on with what lies in ``out``.
        report: called with the newest figures after every episode.

    Raises:
        LearnError: ``out`` holds a run that is not to be resumed, or another one; the classifier
            cannot be used.
        DemosError: not the contract of the task's robot.
    """

    def __init__(
        self,
        settings: LearnSettings,
        resume: bool = False,
        report: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self._settings, self._report = settings, report or (lambda figures: None)
        self._classifier = None
        if settings.episode.classifier:  # before the run's folder is made
            contract = load_contract(settings.contract)
            self._classifier = open_classifier(
                settings.episode.classifier, contract, settings.device
            )
        self.run_state = LearningRun(settings, resume)
        check_contract(self.run_state.base.contract, find_task(settings.task))
        self._best: tuple[float, ...] = ()  # scores of the best version, scene by scene
        self._recent: deque[EpisodeResult] = deque(maxlen=RECENT)

    def run(self) -> dict[str, float]:
        """Run to the last episode; returns the newest figures.

        This is the whole way from the robot to the gradient and back. An episode repeats, per robot
        step: observe (``Driver.observe``), decide (``Agent.decide``), execute (gate, simulation or
        human) and collect (``TransitionBuilder.add``). Whatever transition is whole then goes
        through ``_take`` before the next step, so what acts is always the newest agent.
        """
        settings, run = self._settings, self.run_state
        figures: dict[str, float] = {}
        try:
            first = self._restore()
            with simulation(run.base.contract, settings.task) as sim:
                driver = Driver(settings.rl, run.base, run.agent)
                if self._evaluates_after(first) and not self._evaluated_last():
                    figures = self._evaluate(sim, driver)
                    run.log(figures)
                for number in range(first, settings.episodes):
                    episode = self._sim_episode(sim, driver, self._ending(number), self._take)
                    seed = settings.first_seed + number
                    result = episode.run(f"{number:06d}", number, seed, self._acting())
                    figures |= self._episode_over(number, result)
                    if self._evaluates_after(number + 1):
                        figures |= self._evaluate(sim, driver)  # publishes the best agent
                    run.log(figures)
                    self._report(figures)
            run.save()
        finally:  # no checkpoint of an update that was broken off: the journal has it all
            run.close()
        return figures

    def _take(self, transition: Transition) -> None:
        """Journal, replay, update; the node ``learner`` calls ``LearningRun.take`` as well."""
        self.run_state.take(transition)

    def _restore(self) -> int:
        """Fill the buffers, catch up with the journal; returns the number of the next episode."""
        run = self.run_state
        best = run.out / _BEST
        if run.resumed and best.exists():
            self._best = tuple(json.loads(best.read_text()).get("scores", ()))
        settings = self._settings.episode
        run.restore(settings.completion, settings.judge(self._classifier))
        for transition in run.behind():
            run.learn(transition)
        last = -1
        for transition in run.journal.read(max(len(run.journal) - 1, 0)):
            last = int(transition.episode)
        return last + 1

    def _acting(self) -> Acting:
        """How the newest agent acts: it explores less with every update."""
        run = self.run_state
        updates = run.learner.counts.updates
        version = f"{run.base.loaded.version}+{updates}"
        return Acting(run.settings.rl.exploring(updates), not run.learner.warmed_up, version)

    def _ending(self, number: int) -> SimEpisodeSettings:
        """How an episode ends."""
        settings = self._settings.episode
        return settings.by_environment if number < self._settings.environment_episodes else settings

    def _episode_over(self, number: int, result: EpisodeResult) -> dict[str, float]:
        """Keep an episode's result; returns the run's figures."""
        run = self.run_state
        self._recent.append(result)
        run.journal.sync()
        self._record({"episode": number, **asdict(result)})
        run.save_if_due()
        return self._figures(result)

    def _sim_episode(
        self,
        sim: Task,
        driver: Driver,
        settings: SimEpisodeSettings,
        sink: Callable[[Transition], None],
    ) -> SimEpisode:
        run = self.run_state
        builder = TransitionBuilder(run.spec, self._settings.rl.steps)
        contract = run.base.contract
        return SimEpisode(
            sim, driver, contract, run.signals, settings, builder, sink, self._classifier
        )

    def _evaluates_after(self, episodes: int) -> bool:
        every = self._settings.eval_every
        return bool(every) and episodes % every == 0

    def _evaluated_last(self) -> bool:
        """Whether an evaluation is the last that was done; a kill may have broken one off."""
        results = self.run_state.out / _RESULTS
        lines = list(_lines(results)) if results.exists() else []
        return bool(lines) and "validation_success" in lines[-1]

    def _evaluate(self, sim: Task, driver: Driver) -> dict[str, float]:
        """Unseen scenes without help and exploration; what replaces the best agent is published."""
        results: list[EpisodeResult] = []
        scenes = self._scenes(sim, driver, results)
        first = list(islice(scenes, self._settings.eval_episodes))
        done = [r.duration_s for r in first if r.truth]
        figures = {
            "success": sum(r.truth for r in first) / len(first),
            "verdicts_right": sum(r.truth == r.success for r in first) / len(first),
            "cycle_s": sum(done) / len(done) if done else float("nan"),
            "speed": sum(r.speed for r in first) / len(first),
        }
        kept, why = self._replaces(first, scenes)
        if kept:
            deque(scenes, maxlen=0)  # later versions are compared with this one in every scene
            self._publish_best([float(r.truth) for r in results], figures)
        named = {f"validation_{name}": value for name, value in figures.items()}
        steps = self.run_state.learner.counts.robot_steps
        self._record({"robot_steps": steps, **named, "validation_replaces": why})
        return named

    def _scenes(
        self, sim: Task, driver: Driver, results: list[EpisodeResult]
    ) -> Iterator[EpisodeResult]:
        """Drive an unseen scene whenever one is asked for, and note its result."""
        settings, run = self._settings, self.run_state
        alone = SimEpisodeSettings(**{**vars(settings.episode), "human": None})
        acting = Acting(base_only=not run.learner.warmed_up)
        most = max(settings.eval_episodes, settings.eval_most)
        for seed in range(settings.eval_seed, settings.eval_seed + most):
            episode = self._sim_episode(sim, driver, alone, lambda transition: None)
            results.append(episode.run("", seed, seed, acting))
            yield results[-1]

    def _replaces(
        self, first: list[EpisodeResult], further: Iterator[EpisodeResult]
    ) -> tuple[bool, str]:
        """Whether the newest agent takes the place of the best one so far, and why."""
        if not self._best:
            return True, "kept: the first that was evaluated"
        truths = (float(r.truth) for r in chain(first, further))
        # The best one's scores first: where they end, no scene is driven for nothing.
        scores = zip(self._best, truths, strict=False)
        result = try_replacement(scores, self._settings.replacement, len(self._best))
        return result.kept, result.line

    def _publish_best(self, scores: list[float], figures: dict[str, float]) -> None:
        run, self._best = self.run_state, tuple(scores)
        update = write_update(run.out / VERSIONS, run.agent, run.base, run.learner.counts.updates)
        point(run.out / VERSIONS / BEST, update.path)
        best = {**asdict(update), **figures, "scores": scores}
        replace_file(run.out / _BEST, json.dumps(best) + "\n")

    def _figures(self, result: EpisodeResult) -> dict[str, float]:
        decisions = max(sum(result.choices.values()), 1)
        return self.run_state.figures() | {
            "truth": sum(r.truth for r in self._recent) / len(self._recent),
            "duration_s": result.duration_s,
            "speed": result.speed,
            "actor_share": result.choices.get("actor", 0) / decisions,
        }

    def _record(self, line: dict[str, Any]) -> None:
        with (self.run_state.out / _RESULTS).open("a") as handle:
            handle.write(json.dumps(line) + "\n")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Records of a file of JSON lines; a torn last line, of a killed process, is left out."""
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
