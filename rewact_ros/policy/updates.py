"""Which other checkpoint the running policy may become. Pure; torch is not needed.

An update names a folder below one configured directory and the SHA-256 of all that is in it.
Everything that can be refused by looking at files is refused here; loading and the robot's contract
are the caller's, who loads the bytes that were read here and no others.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from rewact_ros.text import printable

from .checkpoint_files import CONTRACT, CheckpointError, CheckpointFiles, open_folder

OFF = "updates are off: set the parameter policy_dir to the directory they may come from"
# A request's stamp orders it among others, so one of the future would make all others stale.
AHEAD_S = 10.0
_LABEL = 80  # characters of a sender's text that are repeated


class UpdateRefused(ValueError):
    """An update that is not taken; the policy that runs goes on."""


@dataclass(frozen=True)
class Update:
    """A request for another checkpoint, as in `msg/PolicyUpdate`.

    Attributes:
        stamp_ns: when it was asked for; a later request is never overtaken by an earlier one.
        path: checkpoint folder, absolute or relative to the configured directory.
        sha256: of its folder (see ``CheckpointFiles.sha256``), 64 hexadecimal digits.
        version: expected afterwards; empty: any.
        robot: contract hash that it was made for; empty: any.
        rollback: go back to the checkpoint before this one; path and sha256 do not count.
    """

    stamp_ns: int
    path: str = ""
    sha256: str = ""
    version: str = ""
    robot: str = ""
    rollback: bool = False

    @property
    def label(self) -> str:
        """Names this request, and no other one, in a status line."""
        time_s, rest_ns = divmod(self.stamp_ns, 1_000_000_000)
        clock = time.strftime("%H:%M:%S", time.gmtime(time_s))
        what = "rollback" if self.rollback else f"update {printable(self._name, _LABEL)}"
        return f"{what} of {clock}.{rest_ns // 1_000_000:03d} UTC"

    @property
    def _name(self) -> str:
        return self.version or self.path


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that may run.

    Attributes:
        folder: where it lies.
        version: of its weights.
        sha256: of all its files.
        files: what was read and judged, to be loaded; None once it runs.
    """

    folder: Path
    version: str
    sha256: str
    files: CheckpointFiles | None = field(default=None, compare=False, repr=False)


class PolicyUpdates:
    """Judges updates and remembers which checkpoints ran.

    Args:
        directory: the only one from which checkpoints are taken; empty: none are.
        contract_hash: of the robot.
        running: what runs now.
        off: why updates are refused where there is no directory.
    """

    def __init__(
        self, directory: str, contract_hash: str, running: Candidate, off: str = OFF
    ) -> None:
        self._directory = Path(directory).resolve() if directory else None
        self._contract_hash, self._off = contract_hash, off
        self._history = [running]
        self._newest_ns = -1

    @property
    def running(self) -> Candidate:
        """The checkpoint that runs."""
        return self._history[-1]

    def judge(self, update: Update) -> Candidate:
        """Check an update as far as files tell, and read them for the caller to load.

        Raises:
            UpdateRefused: updates are off; a request of the future, or older than one that was
                judged; a folder elsewhere, without weights or with links in it; another robot's;
                other files than announced; the policy that runs already; nothing to go back to.
        """
        if self._directory is None:
            raise UpdateRefused(self._off)
        ahead_s = (update.stamp_ns - time.time_ns()) / 1e9
        if ahead_s > AHEAD_S:
            raise UpdateRefused(
                f"stamp: {ahead_s:.0f} s ahead of this host's clock, allowed {AHEAD_S:g} s; set "
                "the clocks of both hosts"
            )
        if update.stamp_ns < self._newest_ns:
            raise UpdateRefused("stale: a later request came before")
        self._newest_ns = update.stamp_ns
        try:
            found = self._previous() if update.rollback else self._new(update, self._directory)
        except CheckpointError as error:
            raise UpdateRefused(f"path: {error}") from error
        if update.version and update.version != found.version:
            raise UpdateRefused(
                f"version: expected {printable(update.version, _LABEL)}, got {found.version}"
            )
        return found

    def taken(self, candidate: Candidate) -> None:
        """Note that a candidate runs now; going back shortens the history."""
        if len(self._history) > 1 and candidate == self._history[-2]:
            self._history.pop()
        else:
            self._history.append(replace(candidate, files=None))

    def _previous(self) -> Candidate:
        if len(self._history) < 2:
            raise UpdateRefused("rollback: no other checkpoint has run in this process")
        candidate = self._history[-2]
        files = open_folder(candidate.folder)
        if files.sha256 != candidate.sha256:
            raise UpdateRefused(
                f"rollback: {candidate.folder}: its files were {candidate.sha256[:12]}, now they "
                f"are {files.sha256[:12]}; send an update instead"
            )
        return replace(candidate, files=files)

    def _new(self, update: Update, directory: Path) -> Candidate:
        folder = (directory / update.path).resolve()
        if not update.path or not folder.is_relative_to(directory) or folder == directory:
            raise UpdateRefused(
                f"path: expected a folder below {directory} (parameter policy_dir), "
                f"got {printable(update.path, 3 * _LABEL)!r}"
            )
        files = open_folder(folder)
        for source, robot in (("robot", update.robot), (CONTRACT, robot_of(files))):
            if robot and robot != self._contract_hash:
                raise UpdateRefused(
                    f"{source}: expected contract {self._contract_hash}, got "
                    f"{printable(robot, _LABEL)}; use a checkpoint of this robot"
                )
        if files.sha256 != update.sha256.lower():
            asked = printable(update.sha256, _LABEL) or "one in the request"
            raise UpdateRefused(
                f"sha256: {folder}: expected {asked}, got {files.sha256} of all its files; copy "
                "the checkpoint again"
            )
        if files.version == self.running.version:
            same = files.sha256 == self.running.sha256
            raise UpdateRefused(
                f"version {files.version} runs already"
                + ("" if same else ", from other files; restart the policy to take these")
            )
        return Candidate(folder, files.version, files.sha256, files)


def robot_of(files: CheckpointFiles) -> str:
    """Contract hash in a checkpoint; empty where it has no contract.

    Raises:
        CheckpointError: its contract is damaged.
    """
    if CONTRACT not in files:
        return ""
    found = files.json(CONTRACT).get("hash")
    if not isinstance(found, str):
        raise CheckpointError(
            f"{files.path / CONTRACT}: damaged (no hash); copy the checkpoint again"
        )
    return found
