"""The policies that node `policy` holds ready, one of which runs, chosen by the task."""

import resource
from collections.abc import Callable
from pathlib import Path

from rclpy.impl.rcutils_logger import RcutilsLogger

from rewact_ros.contract import Contract
from rewact_ros.learning.rl.serving import open_learned
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy
from rewact_ros.policy.checkpoint_files import CheckpointError, CheckpointFiles, open_folder
from rewact_ros.policy.compatibility import check_pace, fitted
from rewact_ros.policy.engine import Engine
from rewact_ros.policy.engines import load_engine
from rewact_ros.policy.export import export_apart
from rewact_ros.policy.preparation import ReadyPolicy
from rewact_ros.policy.scaling import check_alike
from rewact_ros.policy.task_table import ByTask, TaskRow, UnknownTaskError, table_of
from rewact_ros.policy.updates import OFF, Candidate, PolicyUpdates
from rewact_ros.ros.params import PolicyParams
from rewact_ros.runs import LEARNED
from rewact_ros.sim.task import find_task

Report = Callable[[str], object]
NO_SWAP = (
    "updates are off: several policies are resident (parameter tasks); write the new folder into "
    "the table and bring the robot up anew"
)


class PolicyOpener:
    """Opens checkpoints for one robot.

    Args:
        params: how they run.
        contract: of the robot.
        report: told of an engine that could not serve.
        paced: refuse a policy whose chunks would come too late for the contract.
    """

    def __init__(
        self, params: PolicyParams, contract: Contract, report: Report, paced: bool
    ) -> None:
        self._params, self._contract = params, contract
        self._report, self._paced = report, paced

    def open(self, files: CheckpointFiles) -> tuple[LoadedPolicy, Engine]:
        """Open a checkpoint, check it against the contract, warm it up; in any thread.

        Raises:
            ValueError, RuntimeError: it cannot be used on this robot; says why.
        """
        p, contract = self._params, self._contract
        engine: Engine
        if LEARNED in files:
            loaded, engine = open_learned(files, contract, p.device, p.explore, self._engine_for)
        else:
            simulated = find_task(p.task).robot_model
            loaded = fitted(load_policy(files, p.device), contract, simulated)
            engine = self._engine_for(loaded)
        engine.warm_up()
        if loaded.config.reward_head != "none":
            _ = engine.reward_hash  # which reads all weights, the first time
        if self._paced:
            check_pace(loaded, contract, engine.fastest_s)
        return loaded, engine

    def open_beside(
        self, files: CheckpointFiles, running: LoadedPolicy
    ) -> tuple[LoadedPolicy, Engine]:
        """As `open`, while another policy moves the robot: nothing may hold the interpreter.

        Raises:
            CheckpointError: it also reads or means other numbers than the one that runs.
        """
        if self._params.engine not in ("torch", "torch_cuda_graph") and LEARNED not in files:
            export_apart(files)
        loaded, engine = self.open(files)
        check_alike(loaded, running, self._contract)
        return loaded, engine

    def _engine_for(self, loaded: LoadedPolicy) -> Engine:
        p, rate_hz = self._params, self._contract.rate_hz
        return load_engine(loaded, p.engine, p.precision, p.threads, rate_hz, self._report)


class Residents:
    """All of them in memory and warm, so that another task costs no load; one engine a checkpoint.

    `ask_for` and `settle` belong to one thread; any other reads `running`, anew for each
    observation.

    Attributes:
        running: the policy that infers.
        acts: whether it is the one of the task; of a table, none is before a task is named.
        unknown: why there is none for the task that was asked for, or an empty string.

    Args:
        params: with `policy`, or the table `tasks`.
        contract: of the robot.
        logger: of the node.
        paced: as of ``PolicyOpener``.

    Raises:
        ValueError, RuntimeError, OSError: a policy cannot be used; names it, and its row.
    """

    def __init__(
        self, params: PolicyParams, contract: Contract, logger: RcutilsLogger, paced: bool = True
    ) -> None:
        self._opener = PolicyOpener(params, contract, logger.warning, paced)
        self._contract, self._logger = contract, logger
        self._asked: str | None = None
        table = table_of(params, ("policy", "policy_dir"))
        self.unknown, self.acts = "", table is None
        shared: dict[str, ReadyPolicy] = {}  # by the SHA-256 of all files
        self._by_task = (
            ByTask.one(self._open(Path(params.policy), shared))
            if table is None
            else table.by_task(lambda row: self._of_row(row, shared))
        )
        self.running = self._by_task.usual
        off = OFF if table is None else NO_SWAP
        running = self.running.candidate
        self.updates = PolicyUpdates(params.policy_dir, contract.hash, running, off)

    @property
    def versions(self) -> list[str]:
        """Of all that are ready, in the order of the table."""
        return list(dict.fromkeys(ready.candidate.version for _, ready in self._by_task.rows))

    def ask_for(self, task: str) -> None:
        """Take what the episode that begins is about; `settle` lets its policy run."""
        self._asked = task

    def settle(self, leads: bool) -> bool:
        """Let the policy that was asked for run, but never in place of one that moves the arm.

        Args:
            leads: whether the arm follows the policy now.

        Returns:
            whether another one runs now.
        """
        if self._asked is None or (leads and self.acts):
            return False
        before, task, self._asked = self.running, self._asked, None
        try:
            self.running, self.unknown = self._by_task.of(task), ""
        except UnknownTaskError as error:
            self.unknown = str(error)
        self.acts = not self.unknown
        return self.running is not before

    def open_beside(self, files: CheckpointFiles) -> tuple[LoadedPolicy, Engine]:
        """What may take the place of the one that runs, meanwhile; as of ``PolicyOpener``."""
        return self._opener.open_beside(files, self.running.loaded)

    def replace(self, ready: ReadyPolicy) -> None:
        """Let a checkpoint take the place of the only one."""
        self._by_task, self.running = ByTask.one(ready), ready

    def _of_row(self, row: TaskRow, shared: dict[str, ReadyPolicy]) -> ReadyPolicy:
        before, began_mb = len(shared), _memory_mb()
        ready = self._open(row.policy, shared)
        if len(shared) > before:
            self._logger.info(
                f"task {row.pattern!r}: policy {ready.candidate.version} is ready, "
                f"{_memory_mb() - began_mb:.0f} MB more"
            )
        return ready

    def _open(self, folder: Path, shared: dict[str, ReadyPolicy]) -> ReadyPolicy:
        folder = folder.expanduser().resolve()  # of a link that may move on
        files = open_folder(folder)
        if files.sha256 in shared:
            return shared[files.sha256]
        others = list(shared.values())
        for other in others:
            if other.candidate.version == files.version:
                raise CheckpointError(
                    f"{folder}: expected other weights than {other.candidate.folder}, beside which "
                    f"only other files differ, got the same, {files.version}: the supervisor tells "
                    "policies apart by their weights; give one of the two folders for both"
                )
        loaded, engine = self._opener.open(files)
        self._compare(loaded, others)
        ready = ReadyPolicy(Candidate(folder, loaded.version, files.sha256), loaded, engine)
        return shared.setdefault(files.sha256, ready)

    def _compare(self, loaded: LoadedPolicy, others: list[ReadyPolicy]) -> None:
        """Warn of numbers far from the first policy's; another task's data may mean them."""
        if not others or others[0].loaded.representation != loaded.representation:
            return
        try:
            check_alike(loaded, others[0].loaded, self._contract)
        except ValueError as error:
            self._logger.warning(f"unlike {others[0].candidate.folder}: {error}")


def _memory_mb() -> float:
    """What this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
