"""From the recorder's parameters to what it is made of; every refusal names the parameter."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml
from rewact_ros.contract import Contract
from rewact_ros.contract.names import resolve
from rewact_ros.data.bags.episode_file import EpisodeRecord
from rewact_ros.data.bags.recorder import GIGA, RecordingSettings
from rewact_ros.data.bags.writer import WriterSettings
from rewact_ros.policy.task_table import ByTask, table_of
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.parameter_values import ParameterError
from rewact_ros.ros.params import RecorderParams
from rewact_ros.share import share_dir
from rewact_ros.text import reason

# The recorder's services, keys and buttons.
ACTIONS = ("start", "stop", "success", "failure", "rerecord", "discard")


def topic_filter(
    contract: Contract | None, params: RecorderParams, namespace: str, sim_time: bool
) -> Callable[[str], bool]:
    """Which full topic names are recorded: the contract's, ours, and those of the pattern.

    Of ours all but what goes to a learner: its images are the cameras' once more, and it has a
    journal of its own.

    Raises:
        ParameterError: a pattern is no regular expression.
    """
    chosen = {"/clock"} if sim_time else set()
    if contract is not None:
        topics = [part.topic for part in contract.state]
        topics += [camera.topic for camera in contract.cameras]
        topics += [part.topic for part in contract.action]
        topics += [source.topic for source in contract.teleop]
        topics += [s.deadman.topic for s in contract.teleop if s.deadman is not None]
        chosen |= {resolve(topic, namespace) for topic in topics}
    patterns = {}
    for name in ("topics", "exclude"):
        try:
            patterns[name] = re.compile(getattr(params, name) or r"(?!)")
        except re.error as error:
            raise ParameterError(
                f"recorder: parameter {name}: expected a regular expression of full topic names, "
                f"such as /tf|/camera/.*, got '{getattr(params, name)}': {error}"
            ) from None
    own = resolve("rewact/", namespace)
    learners = {resolve(names.DECISION, namespace), resolve(names.TRANSITIONS, namespace)}

    def wanted(name: str) -> bool:
        if name.startswith(own) and name not in learners:
            return True
        if patterns["exclude"].fullmatch(name):
            return False
        return name in chosen or patterns["topics"].fullmatch(name) is not None

    return wanted


def parse_buttons(text: str) -> dict[str, int]:
    """Read `start=9, success=1` into button indices.

    Raises:
        ParameterError: an unknown action, or no button number.
    """
    buttons = {}
    for part in filter(None, re.split(r"[,\s]+", text)):
        action, _, number = part.partition("=")
        if action not in ACTIONS or not number.isdigit():
            raise ParameterError(
                f"recorder: parameter joy_buttons: expected ACTION=BUTTON with an action of "
                f"{', '.join(ACTIONS)}, got '{part}'"
            )
        buttons[action] = int(number)
    return buttons


def recording_settings(params: RecorderParams) -> RecordingSettings:
    """The parameters as the recording takes them."""
    return RecordingSettings(
        bags_dir=Path(params.bags_dir).expanduser(),
        preroll_s=params.preroll_s,
        preroll_bytes=params.preroll_mb * 1_000_000,
        queue_bytes=params.queue_mb * 1_000_000,
        min_free_bytes=round(params.min_free_gb * GIGA),
        writer=WriterSettings(
            sync_s=params.sync_s,
            max_file_bytes=params.max_bag_mb * 1_000_000,
            compression=params.compression,
        ),
    )


def calibrations(params: RecorderParams) -> ByTask[Any]:
    """Content of each task's calibration file; None: it has none.

    Raises:
        ParameterError: a file, or the table, is not readable.
    """

    def content(file: Path | None) -> Any:
        try:
            return strict_yaml.load_json(file) if file else None
        except (OSError, ValueError) as error:
            raise ParameterError(
                f"recorder: parameter calibration: {file}: {reason(error, file)}"
            ) from None

    table = table_of(params, ("calibration",))
    if table is None:
        return ByTask.one(content(Path(params.calibration) if params.calibration else None))
    return table.by_task(lambda row: content(row.thresholds))


def episode_template(contract: Contract | None, text: str, namespace: str) -> EpisodeRecord:
    """What all episodes of this recorder have in common."""
    return EpisodeRecord(
        episode_id="",
        contract=strict_yaml.parse(text) if text else None,
        contract_hash=contract.hash if contract else "",
        git_revision=git_revision(),
        namespace=namespace.strip("/"),
    )


def git_revision() -> str:
    """Commit of this source tree, with `+` where files were changed; empty: not a clone."""
    tree = share_dir()
    if not (tree / ".git").exists():
        return ""
    command = ["git", "-C", str(tree), "describe", "--always", "--exclude=*", "--abbrev=40"]
    # The tree's own repository, not one that the environment names.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*command, "--dirty=+"], capture_output=True, timeout=5, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
