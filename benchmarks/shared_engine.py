"""One policy for several roll-outs at a time: a batch costs little more than a single inference."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from tqdm import tqdm

from rewact_ros.episodes.rollout import Trace, record_rollout
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.engine import Prediction
from rewact_ros.policy.images import unit_images
from rewact_ros.sim.pick_place.task import PickPlace

Observation = dict[str, np.ndarray]
_LANES = 8  # roll-outs at a time


class SharedEngine:
    """Answers once every roll-out waits; a roll-out runs in a thread, between `join` and `leave`.

    Raises:
        ValueError: a policy with a history, or without a distribution of the reward.
    """

    def __init__(self, loaded: LoadedPolicy) -> None:
        if loaded.config.n_obs_steps != 1 or loaded.config.reward_head != "distributional":
            raise ValueError(
                f"{loaded.path}: expected n_obs_steps 1 and a distributional reward head, got "
                f"{loaded.config.n_obs_steps} and {loaded.config.reward_head}"
            )
        self._loaded = loaded
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: list[tuple[Observation, Future[Prediction]]] = []

    def drives(self) -> None:
        """Of a policy that is not slow, no chunk goes on from another."""

    def join(self) -> None:
        """A roll-out begins to ask."""
        with self._lock:
            self._running += 1

    def leave(self) -> None:
        """A roll-out asks no more."""
        with self._lock:
            self._running -= 1
            self._answer_if_all_wait()

    def reset(self) -> None:
        """There is no history to forget."""

    def infer(self, observation: Observation, stamp_s: float | None = None) -> Prediction:
        """Predict from one observation, as `TorchEngine.infer`."""
        future: Future[Prediction] = Future()
        with self._lock:
            self._waiting.append((observation, future))
            self._answer_if_all_wait()
        return future.result()

    def _answer_if_all_wait(self) -> None:
        if not self._waiting or len(self._waiting) < self._running:
            return
        waiting, self._waiting = self._waiting, []
        try:
            answers = self._predict([observation for observation, _ in waiting])
        except Exception as error:  # or the other threads would wait for ever
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            future.set_result(answer)

    @torch.inference_mode()
    def _predict(self, observations: list[Observation]) -> list[Prediction]:
        batch = {}
        for key in self._loaded.config.input_features:
            tensor = torch.from_numpy(np.stack([o[key] for o in observations]))
            is_image = key in self._loaded.config.image_features
            batch[key] = unit_images(tensor) if is_image else tensor.float()
        estimate = self._loaded.predict(batch)
        reward = estimate.reward
        columns = (estimate.actions, reward.value, reward.quantiles, reward.entropy)
        actions, value, quantiles, entropy = (column.float().numpy() for column in columns)
        features = estimate.features.numpy()
        return [
            Prediction(
                actions[i],
                float(value[i]),
                tuple(quantiles[i].tolist()),
                float(entropy[i]),
                features[i],
            )
            for i in range(len(observations))
        ]


def roll_outs_side_by_side(
    loaded: LoadedPolicy,
    seeds: list[int],
    settings: RolloutSettings,
    simulation: Callable[[], PickPlace],
    keep: Callable[[int, Trace], None],
    what: str,
) -> None:
    """Drive scenes, several at a time; each thread has its own simulation and cameras.

    Args:
        loaded: the policy.
        seeds: scenes.
        settings: of each episode.
        simulation: makes one, in its thread.
        keep: is given seed and course of each episode, in that thread.
        what: is driven, for the progress bar.
    """
    engine, left = SharedEngine(loaded), queue.SimpleQueue[int]()
    for seed in seeds:
        left.put(seed)
    bar = tqdm(total=len(seeds), desc=what, unit="episode", mininterval=5)

    def lane() -> None:
        sim = simulation()
        engine.join()
        try:
            while True:
                seed = left.get_nowait()
                _, trace = record_rollout(engine, sim, seed, settings)
                keep(seed, trace)
                bar.update()
        except queue.Empty:
            pass
        finally:
            engine.leave()
            sim.close()

    with bar, ThreadPoolExecutor(_LANES) as pool:
        for done in [pool.submit(lane) for _ in range(min(_LANES, len(seeds)))]:
            done.result()
