"""The policy in training, tried on a simulated task."""

from contextlib import AbstractContextManager
from pathlib import Path

from lerobot.processor import PolicyProcessorPipeline

from rewact_ros.contract import load_contract
from rewact_ros.episodes.rollout import roll_out
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.compatibility import fitted
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.policy.policy import Policy
from rewact_ros.sim.task import Task, find_task, open_task

from .demonstrations import Demonstrations
from .settings import TrainError, TrainSettings


def require_simulated_task(data: Demonstrations, name: str) -> None:
    """Raise unless the dataset is one of the simulated task, and the simulator runs here.

    Raises:
        TaskError: no such task.
        TrainError: other cameras, joints or rate.
        SimulationUnavailableError: MuJoCo, its assets or off-screen OpenGL are missing.
    """
    task = find_task(name)
    expected = {f"observation.images.{name}" for name in task.cameras}
    joints = len(task.joints)
    if (
        set(data.camera_shapes) != expected
        or data.state.shape[1:] != (joints,)
        or data.action.shape[1:] != (joints,)
        or data.fps != task.rate_hz
    ):
        raise TrainError(
            f"test_every: the task {name} has cameras {sorted(expected)}, {joints} joints "
            f"and {task.rate_hz} Hz, the dataset {sorted(data.camera_shapes)}, "
            f"{data.state.shape[1]} and {data.fps} Hz; name its task, or set test_every to 0"
        )
    with _simulator(data, name):
        pass


def simulated_success(
    policy: Policy,
    preprocessor: PolicyProcessorPipeline,
    postprocessor: PolicyProcessorPipeline,
    data: Demonstrations,
    settings: TrainSettings,
) -> dict[str, float]:
    """Drive ``settings.test_episodes`` unseen scenes; returns the share of ``success``."""
    loaded = LoadedPolicy(
        policy=policy,
        preprocessor=preprocessor,
        postprocessor=postprocessor,
        config=policy.config,
        contract=None,
        version="in training",
        path=Path(settings.out),
    )
    if loaded.representation is not None:
        task = find_task(settings.task)
        loaded = fitted(loaded, load_contract(task.contract_file()), task.robot_model)
    engine = TorchEngine(loaded, threads=None, rate_hz=data.fps)
    seeds = range(settings.test_seed, settings.test_seed + settings.test_episodes)
    with _simulator(data, settings.task) as sim:
        successes = sum(roll_out(engine, sim, seed).success for seed in seeds)
    return {"success": successes / settings.test_episodes}


def _simulator(data: Demonstrations, task: str) -> AbstractContextManager[Task]:
    _, height, width = next(iter(data.camera_shapes.values()))
    return open_task(task, height, width)
