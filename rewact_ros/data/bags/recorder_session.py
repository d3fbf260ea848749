"""When an episode is recorded and how it is judged: by people, or as the supervisor reports."""

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rewact_ros.data.bags.episode_file import OUTCOMES, EpisodeRecord
from rewact_ros.data.bags.recorder import BagRecorder, RecordingError
from rewact_ros.data.bags.writer_thread import Note
from rewact_ros.msg import EpisodeEvent
from rewact_ros.policy.task_table import ByTask, UnknownTaskError
from rewact_ros.stamps import ran_back
from rewact_ros.tokens import EpisodeOwners

OPERATOR, SUPERVISOR = "operator", "supervisor"
# An episode's name becomes a folder's, and anybody on the network can publish one.
_EPISODE_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")
_BEGINNINGS = (EpisodeEvent.STARTED, EpisodeEvent.RESETTING, EpisodeEvent.RUNNING)


class RefusedError(RuntimeError):
    """What was asked for is not possible now; the message says why."""


@dataclass(frozen=True)
class SessionSettings:
    """How episodes begin and end.

    Attributes:
        operator: who judges when a person does; also written into every episode.
        task: of episodes that people start.
        follow_supervisor: record the supervisor's episodes.
        postroll_s: seconds recorded after the supervisor's verdict.
        supervisor_timeout_s: silence of the supervisor that ends its episode.
    """

    operator: str = ""
    task: str = ""
    follow_supervisor: bool = True
    postroll_s: float = 0.5
    supervisor_timeout_s: float = 5.0


class RecordingSession:
    """Decides, by calls from one thread; `BagRecorder` does it.

    `now_ns` is always the clock of the messages' log times.

    Args:
        recording: where messages go.
        template: what all episodes have in common.
        calibrations: content of the supervisor's calibration of each task; None: it has none.
        contract: YAML text of the contract; empty: none.
        policy_version: asked at the begin and the end of an episode; empty: no policy runs.

    Attributes:
        record: of the open episode, or the last; None before the first.
        owner: of the open episode: `operator` or `supervisor`; empty: none is open.
        called: the name that the open episode, or the last, began with. Where time ran backwards
            in it, recording goes on in a folder of another name.
        trouble: why nothing is recorded though it should be; empty: all is well.
    """

    def __init__(
        self,
        recording: BagRecorder,
        template: EpisodeRecord,
        calibrations: ByTask[Any],
        contract: str,
        settings: SessionSettings,
        policy_version: Callable[[], str],
    ) -> None:
        self.recording = recording
        self.record: EpisodeRecord | None = None
        self.owner = self.called = ""
        self.trouble = ""
        self._template, self._contract, self._settings = template, contract, settings
        self._calibrations = calibrations
        self._policy_version = policy_version
        self._ends_ns: int | None = None  # of the post-roll
        self._heard_s: float | None = None
        self._now_ns = self._back_from_ns = 0
        self._piece = 1  # of an episode in which time ran backwards
        self._owners = EpisodeOwners()

    # People ------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> str:
        """Begin an episode that people judge.

        Raises:
            RefusedError: one is open.
            RecordingError: too little room.
        """
        if self.owner and self._ends_ns is None:
            raise RefusedError(f"{self._open.episode_id} is being recorded; stop it first")
        self._finish()
        name = f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._begin(name, self._settings.task, OPERATOR, now_ns)
        return f"recording {name}"

    def stop(self, now_ns: int) -> str:
        """End the open episode without a verdict, whoever began it."""
        record = self._require_open()
        if self._ends_ns is not None:  # the verdict has come
            self._finish()
            return f"{record.episode_id} ended, {record.outcome}"
        self._end(record.labelled("unlabelled", "", "stopped"), now_ns)
        return f"{record.episode_id} ended, unlabelled"

    def judge(self, outcome: str, now_ns: int) -> str:
        """End the open episode as `success` or `failure`, or judge the last one anew."""
        by = self._settings.operator or OPERATOR
        if self.owner and self._ends_ns is None:
            self._require_mine("judges it: call supervisor/success or supervisor/failure")
            self._end(self._open.labelled(outcome, by, "human"), now_ns)
        elif self.owner:
            self.record = self._open.labelled(outcome, by, "")
        else:
            self.recording.label(self._last(), outcome, by)
            self.record = self._open.labelled(outcome, by, "")
        return f"{self._open.episode_id}: {outcome}"

    def discard(self, now_ns: int) -> str:
        """Mark the open or last episode as not worth training on; its files stay."""
        if self.owner:
            self.record = replace(self._open, discarded=True)
            if self.owner == OPERATOR:
                self._end(self._open.labelled("unlabelled", "", "stopped"), now_ns)
        else:
            self.recording.label(self._last(), None, "", discarded=True)
            self.record = replace(self._open, discarded=True)
        return f"{self._open.episode_id} is marked discarded; `rewact bag prune` deletes"

    def rerecord(self, now_ns: int) -> str:
        """Mark the open or last episode discarded and begin anew.

        Raises:
            RefusedError: the supervisor's episode is open, or there is none at all.
            RecordingError: too little room.
        """
        if self.owner and self._ends_ns is None:
            self._require_mine("runs it: cancel its goal and send it again")
        self.discard(now_ns)
        return f"{self.start(now_ns)}; the one before is marked discarded"

    # The supervisor ----------------------------------------------------------------------------

    def heard_supervisor(self, now_s: float) -> None:
        """Its status came, at this time of the steady clock."""
        self._heard_s = now_s

    def on_event(self, event: EpisodeEvent, log_ns: int) -> None:
        """Follow the supervisor's episode."""
        if not self._settings.follow_supervisor:
            return
        name = event.episode_id
        if not _EPISODE_ID.fullmatch(name):
            self._warn(f"episode event: '{name}' cannot be the name of a folder; not recorded")
            return
        mine = bool(self.owner) and self.called == name
        begins = event.event in _BEGINNINGS
        from_owner = self._owners.take(name, begins, event.proof, event.next)
        if begins and not mine:
            self._follow(name, event, log_ns)
        elif event.event == EpisodeEvent.VERDICT and mine and self._ends_ns is None:
            judged = _judged(self._open, event) if from_owner else self._unjudged(event)
            self.record = replace(judged, ended_ns=log_ns)
            self._ends_ns = log_ns + round(self._settings.postroll_s * 1e9)
        elif event.event == EpisodeEvent.RELABELLED:
            self._relabel(name, mine, event, from_owner)
        running = event.event == EpisodeEvent.RUNNING and from_owner
        if running and self.owner and self._open.running_ns is None:
            self.record = replace(self._open, running_ns=log_ns)

    def ran_back(self, now_ns: int) -> bool:
        """Whether time has run backwards since the last call; then call `begin_anew`."""
        last_ns, self._now_ns = self._now_ns, now_ns
        if not ran_back(now_ns, last_ns):
            return False
        self._back_from_ns = last_ns
        return True

    def begin_anew(self, now_ns: int) -> None:
        """End the open recording, for time ran backwards, and go on in another one."""
        self.recording.forget_preroll()
        if not self.owner:
            return
        if self._ends_ns is not None:  # the verdict has come; only the post-roll is cut
            self._finish()
            return
        before, owner, called, piece = self._open, self.owner, self.called, self._piece
        detail = f"time ran backwards by {(self._back_from_ns - now_ns) / 1e9:.2f} s"
        self._warn(f"episode {before.episode_id} ended: {detail}; recording goes on in another")
        record = before.labelled("unlabelled", "", "interrupted", detail)
        self._end(record, self._back_from_ns)
        name = f"{called}-{piece + 1}"
        try:
            self._begin(name, before.task, owner, now_ns)
        except RecordingError as error:
            self._warn(f"episode {name} is NOT recorded: {error}")
            return
        self.called, self._piece = called, piece + 1
        if before.running_ns is not None:
            self.record = replace(self._open, running_ns=now_ns)

    def _unjudged(self, event: EpisodeEvent) -> EpisodeRecord:
        """The open episode, ended by somebody who did not begin it: nobody judged it."""
        name = self._open.episode_id
        self._warn(f"episode {name}: verdict of another supervisor than began it; unlabelled")
        detail = "verdict of another supervisor than began it"
        return self._open.labelled("unlabelled", "", "interrupted", detail)

    def step(self, now_ns: int, now_s: float) -> None:
        """End what is over: post-roll, a full disk, a silent supervisor."""
        if not self.owner:
            return
        fault = self.recording.fault
        if fault is not None:
            self._break_off(fault.reason, fault.text, now_ns)
        elif self.recording.too_full:
            free_mb = self.recording.free_bytes / 1e6
            self._break_off("disk_full", f"only {free_mb:.0f} MB are free", now_ns)
        elif self._ends_ns is not None:
            if now_ns >= self._ends_ns:
                self._finish()
        elif self.owner == SUPERVISOR and self._heard_s is not None:
            silence_s = now_s - self._heard_s
            if silence_s > self._settings.supervisor_timeout_s:
                detail = f"supervisor is silent for {silence_s:.1f} s"
                self._end(self._open.labelled("unlabelled", "", "interrupted", detail), now_ns)

    def close(self, now_ns: int) -> None:
        """End the open episode because the recorder ends."""
        if self._ends_ns is not None:
            self._finish()
        elif self.owner:
            detail = "the recorder was stopped"
            self._end(self._open.labelled("unlabelled", "", "stopped", detail), now_ns)

    # Parts -------------------------------------------------------------------------------------

    @property
    def _open(self) -> EpisodeRecord:
        assert self.record is not None
        return self.record

    def _begin(self, name: str, task: str, owner: str, now_ns: int) -> None:
        record = replace(
            self._template,
            episode_id=name,
            task=task,
            calibration=self._calibration(task),
            operator=self._settings.operator,
            policy_version=self._policy_version(),
            started_ns=now_ns,
        )
        try:
            self.recording.start(record, self._contract)
        except RecordingError as error:
            self.trouble = str(error)
            raise
        self.record, self.owner, self.trouble = record, owner, ""
        self.called, self._piece = name, 1
        self._ends_ns = self._heard_s = None

    def _calibration(self, task: str) -> Any:
        try:
            return self._calibrations.of(task)
        except UnknownTaskError:  # of an episode that a person began, which nothing judges
            return None

    def _follow(self, name: str, event: EpisodeEvent, log_ns: int) -> None:
        if self._ends_ns is not None:
            self._finish()
        elif self.owner:
            detail = f"{name} began"
            self._end(self._open.labelled("unlabelled", "", "interrupted", detail), log_ns)
        try:
            self._begin(name, event.task or self._settings.task, SUPERVISOR, log_ns)
        except RecordingError as error:
            self._warn(f"episode {name} is NOT recorded: {error}")

    def _relabel(self, name: str, mine: bool, event: EpisodeEvent, from_owner: bool) -> None:
        if not from_owner:
            self._warn(
                f"episode {name}: a new verdict ({_outcome(event)}) was refused, expected it from "
                "the supervisor that ran the episode, before the next but one begins; "
                "to change a label by hand: `rewact bag label`"
            )
            return
        if mine:
            self.record = _judged(self._open, event)
            return
        last = self.record if self.called == name else None
        folder = self.recording.settings.bags_dir / (last.episode_id if last is not None else name)
        if folder.is_dir():
            self.recording.label(folder, _outcome(event), event.by)
            if last is not None:
                self.record = _judged(last, event)

    def _break_off(self, reason: str, detail: str, now_ns: int) -> None:
        record, self.trouble = self._open, detail
        if self._ends_ns is None:
            record = record.labelled("unlabelled", "", reason, detail)
        self._warn(f"episode {record.episode_id} ended: {detail}")
        self._end(record, now_ns)

    def _finish(self) -> None:
        """End an episode whose verdict has come."""
        if self._ends_ns is not None:
            self._end(self._open, self._ends_ns)

    def _end(self, record: EpisodeRecord, now_ns: int) -> None:
        self.record = replace(
            record,
            ended_ns=record.ended_ns or now_ns,
            policy_version=self._policy_version() or record.policy_version,
        )
        self.recording.end(self.record)
        self.owner, self._ends_ns = "", None

    def _require_open(self) -> EpisodeRecord:
        if not self.owner:
            raise RefusedError("nothing is being recorded")
        return self._open

    def _require_mine(self, what: str) -> None:
        if self.owner == SUPERVISOR:
            raise RefusedError(f"{self._open.episode_id} is the supervisor's, which {what}")

    def _last(self) -> Path:
        if self.record is None:
            raise RefusedError("no episode was recorded yet")
        return self.recording.settings.bags_dir / self.record.episode_id

    def _warn(self, text: str) -> None:
        self.recording.notes.append(Note(text, fault=True))


def _judged(record: EpisodeRecord, event: EpisodeEvent) -> EpisodeRecord:
    return record.labelled(_outcome(event), event.by, event.termination_reason, event.detail)


def _outcome(event: EpisodeEvent) -> str:
    return OUTCOMES[event.outcome] if event.outcome < len(OUTCOMES) else OUTCOMES[0]
