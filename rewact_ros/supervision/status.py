"""The supervisor's state in one line: the same in log, /diagnostics and topic."""

from rewact_ros.supervision.batch import Batch, Plan
from rewact_ros.supervision.episodes import Control, Phase
from rewact_ros.supervision.escalation import Step

IDLE, PAUSED, ENDING = "idle", "paused", "ending"
NEVER_CLAIMED = "bound: not claimed"


def phase_name(batch: Batch | None) -> str:
    """Phase as `SupervisorStatus` and the action's feedback name it."""
    if batch is None:
        return IDLE
    if batch.over:
        return ENDING
    return batch.episode.phase.value if batch.episode else PAUSED


def running_text(batch: Batch, control: Control | None, stamp_s: float) -> str:
    """What the episode that runs is doing, or why none does."""
    if batch.episode is None:
        done = f"{batch.plan.begun}/{batch.plan.episodes} episodes done"
        if batch.over:
            return f"{done}, {ENDING}: hil: {control.reason if control else 'silent'}"
        return f"{done}, {batch.waiting}" + ("; ~/unpause goes on" if batch.paused else "")
    episode, phase = batch.episode, batch.episode.phase
    text = f"episode {batch.plan.begun}/{batch.plan.episodes} {phase.value}"
    if phase is Phase.HELP:
        return f"{text}: {episode.decision.reason}; take over or call ~/go_on"
    if phase is Phase.RUNNING:
        if episode.unready:
            text += f", waits for {episode.unready}"
        elif control is not None and control.mode != Control.POLICY:
            text += f", hil: {control.reason}"
        if episode.decision.step is Step.WARN:
            text += f", warning: {episode.decision.signal}"
        waiting = episode.waiting_for(stamp_s)
        if waiting:
            text += f", complete by reward but {waiting}"
    return text


def idle_text(last: str, refused: str, rest: Plan | None, misfit: str) -> str:
    """What is known while nothing runs.

    Args:
        last: how the last episode ended, or "".
        refused: why the last goal was refused, or "".
        rest: of a batch that a restart interrupted.
        misfit: why no goal can be taken, or "".
    """
    parts = [IDLE]
    if misfit:
        parts.append(f"goals are refused: {misfit}")
    if rest is not None and rest.left > 0:
        parts.append(
            f"{rest.left} of {rest.episodes} episodes of '{rest.task}' left, ~/continue_batch "
            "goes on"
        )
    if refused and refused != misfit:
        parts.append(f"goal refused: {refused}")
    elif last:
        parts.append(f"last episode {last}")
    return "; ".join(parts)


def claimed(bound: str, helped: bool) -> str:
    """What the thresholds promise in this episode: nothing more once a person has led."""
    if helped and bound.startswith("bound:"):
        return f"{NEVER_CLAIMED} (a person helped)"
    return bound
