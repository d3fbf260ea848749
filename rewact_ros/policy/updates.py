"""Which other checkpoint the running policy may become. Pure; torch is not needed.

An update names a folder below one configured directory and the SHA-256 of its weights. Everything
that can be refused by looking at files is refused here; loading and the robot's contract are the
caller's.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

WEIGHTS, CONTRACT = "model.safetensors", "contract.json"


class UpdateRefused(ValueError):
    """An update that is not taken; the policy that runs goes on."""


@dataclass(frozen=True)
class Update:
    """A request for another checkpoint, as in `msg/PolicyUpdate`.

    Attributes:
        stamp_ns: when it was asked for; a later request is never overtaken by an earlier one.
        path: checkpoint folder, absolute or relative to the configured directory.
        sha256: of its weights, 64 hexadecimal digits.
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
        what = "rollback" if self.rollback else f"update {self.version or self.path}"
        return f"{what} of {clock}.{rest_ns // 1_000_000:03d} UTC"


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that may be loaded: its folder, and the version that its weights must have."""

    folder: Path
    version: str


class PolicyUpdates:
    """Judges updates and remembers which checkpoints ran.

    Args:
        directory: the only one from which checkpoints are taken; empty: none are.
        contract_hash: of the robot.
        running: what runs now.
    """

    def __init__(self, directory: str, contract_hash: str, running: Candidate) -> None:
        self._directory = Path(directory).resolve() if directory else None
        self._contract_hash = contract_hash
        self._history = [running]
        self._newest_ns = -1

    @property
    def running(self) -> Candidate:
        """The checkpoint that runs."""
        return self._history[-1]

    def judge(self, update: Update) -> Candidate:
        """Check an update as far as files tell; reads the weights once.

        Raises:
            UpdateRefused: updates are off; an older request than one that was judged; a folder
                elsewhere or without weights; another robot's; other weights than announced; the
                policy that runs already; nothing to go back to.
        """
        if self._directory is None:
            raise UpdateRefused(
                "updates are off: set the parameter policy_dir to the directory they may come from"
            )
        if update.stamp_ns < self._newest_ns:
            raise UpdateRefused("stale: a later request came before")
        self._newest_ns = update.stamp_ns
        candidate = self._previous() if update.rollback else self._new(update, self._directory)
        if update.version and update.version != candidate.version:
            raise UpdateRefused(f"version: expected {update.version}, got {candidate.version}")
        return candidate

    def taken(self, candidate: Candidate) -> None:
        """Note that a candidate runs now; going back shortens the history."""
        if len(self._history) > 1 and candidate == self._history[-2]:
            self._history.pop()
        else:
            self._history.append(candidate)

    def _previous(self) -> Candidate:
        if len(self._history) < 2:
            raise UpdateRefused("rollback: no other checkpoint has run in this process")
        candidate = self._history[-2]
        digest = _digest(candidate.folder)
        if not digest.startswith(candidate.version):
            raise UpdateRefused(
                f"rollback: {candidate.folder / WEIGHTS}: its weights were {candidate.version}, "
                f"now they are {digest[:12]}; send an update instead"
            )
        return candidate

    def _new(self, update: Update, directory: Path) -> Candidate:
        folder = (directory / update.path).resolve()
        if not update.path or not folder.is_relative_to(directory):
            raise UpdateRefused(
                f"path: expected a folder below {directory} (parameter policy_dir), "
                f"got {update.path!r}"
            )
        if not (folder / WEIGHTS).is_file():
            raise UpdateRefused(f"path: {folder}: no checkpoint here ({WEIGHTS} is missing)")
        for source, robot in (("robot", update.robot), (CONTRACT, _robot_of(folder))):
            if robot and robot != self._contract_hash:
                raise UpdateRefused(
                    f"{source}: expected contract {self._contract_hash}, got {robot}; "
                    "use a checkpoint of this robot"
                )
        digest = _digest(folder)
        if digest != update.sha256.lower():
            raise UpdateRefused(
                f"sha256: {folder / WEIGHTS}: expected {update.sha256 or 'one in the request'}, "
                f"got {digest}; copy the checkpoint again"
            )
        if digest.startswith(self.running.version):
            raise UpdateRefused(f"version {self.running.version} runs already")
        return Candidate(folder, digest[:12])


def _digest(folder: Path) -> str:
    try:
        with open(folder / WEIGHTS, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise UpdateRefused(f"{folder / WEIGHTS}: {error.strerror}") from error


def _robot_of(folder: Path) -> str:
    """Contract hash in the checkpoint; empty where it has no contract."""
    file = folder / CONTRACT
    try:
        return str(json.loads(file.read_text())["hash"]) if file.is_file() else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UpdateRefused(f"{file}: damaged ({error}); copy the checkpoint again") from error
