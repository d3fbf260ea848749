"""`rewact eval --dataset`: a policy's reward and actions on recorded episodes, beside baselines."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rewact_ros.data.dataset.info import parse_episodes
from rewact_ros.learning.imitation.demonstrations import (
    Demonstrations,
    load_demonstrations,
)
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.reward.baselines import Baseline, ClockBaseline, ProprioceptionBaseline
from rewact_ros.reward.judge_check import JudgeCheck

from .ablations import ABLATIONS, predict_curves
from .judging import check_progress
from .open_loop import ActionError, action_errors
from .reward import Curve, Judged, LabelledEpisode, done_frame, judge, labelled_episodes
from .settings import EvaluationSettings

POLICY, CLOCK, JOINTS = "policy", "clock only", "joints only"


class EvaluationError(ValueError):
    """An evaluation that cannot be made as asked."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found out.

    Attributes:
        episodes: the truth.
        reward: predictor (``policy``, the baselines, the ablations) -> its figures; empty for a
            policy without a reward head.
        actions: ``policy`` and baselines -> error; empty where no frame teaches an action.
        action_names: joints of the action.
        check: whether the policy's reward is a judge; None without a reward head.
    """

    episodes: list[LabelledEpisode]
    reward: dict[str, Judged]
    actions: dict[str, ActionError]
    action_names: list[str]
    check: JudgeCheck | None = None


def evaluate_dataset(loaded: LoadedPolicy, settings: EvaluationSettings) -> Evaluation:
    """Judge a policy on recorded episodes.

    Raises:
        EvaluationError: the dataset does not fit the policy, or the baselines would be fitted on
            episodes that they are judged on.
        DatasetError: no such dataset, episodes outside it, no labels.
    """
    data = load_demonstrations(settings.dataset, settings.progress_ramp)
    _check_fit(loaded, data, settings.dataset)
    chosen = _choose(data, settings.episodes)
    train_data, train = _training(data, chosen, settings)
    config = loaded.config
    for own, episodes in ((data, chosen), (train_data, train)):
        if config.reward_head != "none":
            own.require_labels(own.rows(episodes), config.value_min, config.value_max)
    data.decode(loaded.config.image_size, chosen, settings.cache)
    truth, reward = labelled_episodes(data, chosen), {}
    if loaded.config.reward_head != "none":
        reward[POLICY] = judge(truth, predict_curves(loaded, data, chosen))
        for name, baseline in _baselines(train_data, train).items():
            reward[name] = judge(truth, [Curve(baseline.predict(e.state)) for e in truth])
        for name in ABLATIONS if settings.ablations else ():
            reward[name] = judge(truth, predict_curves(loaded, data, chosen, name))
    taught = train_data.rows(train)
    taught = taught[train_data.teaches[taught]]
    constant = train_data.action[taught].mean(axis=0) if len(taught) else None
    return Evaluation(
        episodes=truth,
        reward=reward,
        # The dataset's joints are no poses or steps to compare with.
        actions={}
        if loaded.representation is not None
        else action_errors(loaded, data, chosen, constant),
        action_names=data.source.meta.features["action"].get("names") or [],
        check=_check(reward[POLICY], truth, data.fps) if reward else None,
    )


def _check(judged: Judged, truth: list[LabelledEpisode], rate_hz: float) -> JudgeCheck:
    """Whether the policy's reward is a judge on these episodes."""

    def done(episode: LabelledEpisode) -> int | None:
        if not episode.succeeds:
            return None
        frame = done_frame(episode)
        return len(episode.labels) - 1 if frame is None else frame

    return check_progress(
        [curve.progress for curve in judged.curves],
        [episode.succeeds for episode in truth],
        rate_hz,
        [episode.state for episode in truth],
        [done(episode) for episode in truth],
    )


def _choose(data: Demonstrations, text: str) -> list[int]:
    total = int(data.source.meta.total_episodes)
    return parse_episodes(text, total) if text else list(range(total))


def _training(
    data: Demonstrations, chosen: list[int], settings: EvaluationSettings
) -> tuple[Demonstrations, list[int]]:
    """The data and episodes that the baselines are fitted on."""
    other = settings.train_dataset
    if other is None or other.resolve() == settings.dataset.resolve():
        train = _choose(data, settings.train_episodes) if settings.train_episodes else []
        both = sorted(set(train) & set(chosen))
        if both:
            raise EvaluationError(
                f"train-episodes {settings.train_episodes}: expected none of the judged episodes, "
                f"got {both[:5]} in both; choose them apart"
            )
        return data, train
    train_data = load_demonstrations(other, settings.progress_ramp)
    if train_data.state.shape[1] != data.state.shape[1] or train_data.fps != data.fps:
        raise EvaluationError(
            f"{other}: expected {data.state.shape[1]} joints at {data.fps} Hz as in "
            f"{settings.dataset}, got {train_data.state.shape[1]} at {train_data.fps} Hz"
        )
    return train_data, _choose(train_data, settings.train_episodes)


def _baselines(data: Demonstrations, episodes: list[int]) -> dict[str, Baseline]:
    if not episodes:
        return {}
    rows = [data.rows([index]) for index in episodes]
    labels, states = [data.reward[r] for r in rows], [data.state[r] for r in rows]
    return {CLOCK: ClockBaseline(labels), JOINTS: ProprioceptionBaseline(states, labels)}


def _check_fit(loaded: LoadedPolicy, data: Demonstrations, dataset: Path) -> None:
    """Refuse a dataset whose inputs the policy cannot take."""
    has, needs = {**data.input_features()}, {**loaded.config.input_features}
    if loaded.representation is None:
        has, needs = has | data.output_features(), needs | loaded.config.output_features
    for key, feature in needs.items():
        got = has[key].shape if key in has else None
        if got is None or tuple(got) != tuple(feature.shape):
            raise EvaluationError(
                f"{dataset}: {key}: expected shape {tuple(feature.shape)} as in {loaded.path}, "
                f"got {'no such feature' if got is None else tuple(got)}; "
                "choose a dataset of the policy's robot"
            )
    signature = (loaded.contract or {}).get("signature")
    if signature and abs(signature["rate_hz"] - data.fps) > 1e-6:
        raise EvaluationError(
            f"{dataset}: fps: expected {signature['rate_hz']:g} as in {loaded.path}, got {data.fps}"
        )


def judge_summary(check: JudgeCheck | None) -> dict[str, object] | None:
    """A finding as JSON can hold it; NaN becomes None."""
    if check is None:
        return None
    figures = {k: None if v != v else v for k, v in asdict(check).items()}
    return {**figures, "fault": check.fault, "told": check.told}


def summary(evaluation: Evaluation) -> dict[str, object]:
    """The figures as JSON can hold them; NaN becomes None."""

    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        "episodes": {
            "n": len(evaluation.episodes),
            "successes": sum(e.succeeds for e in evaluation.episodes),
            "frames": sum(len(e.labels) for e in evaluation.episodes),
        },
        "judge": judge_summary(evaluation.check),
        "reward": {
            name: {
                key: {
                    "value": number(f.value),
                    "n": f.n,
                    "low": number(f.low),
                    "high": number(f.high),
                }
                for key, f in judged.figures.items()
            }
            for name, judged in evaluation.reward.items()
        },
        "actions": {
            name: {
                "mean": error.mean,
                "per_joint": {
                    str(joint): float(value)
                    for joint, value in zip(
                        evaluation.action_names or range(len(error.per_joint)),
                        error.per_joint,
                        strict=True,
                    )
                },
                "per_step": [number(value) for value in error.per_step],
            }
            for name, error in evaluation.actions.items()
        },
        "scores": {
            name: [
                {
                    "episode": e.index,
                    "succeeds": e.succeeds,
                    "score": float(score),
                }
                for e, score in zip(evaluation.episodes, judged.scores, strict=True)
            ]
            for name, judged in evaluation.reward.items()
            if name == POLICY
        },
    }
