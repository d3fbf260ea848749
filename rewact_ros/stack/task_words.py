"""A running task and its end in one line each."""

import math

from rewact_ros.action import ExecuteTask

OUTCOMES = ("UNLABELLED", "SUCCESS", "FAILURE")


def phase_line(feedback: ExecuteTask.Feedback) -> str:
    """Which episode is where, and how far."""
    known = not math.isnan(feedback.progress)
    progress = f", progress {feedback.progress:.2f}" if known else ""
    return f"episode {feedback.episode}: {feedback.phase}{progress}"


def outcome_line(result: ExecuteTask.Result) -> str:
    """Outcome, reason and figures of the last episode; of a batch also how many went how."""
    peak = "" if math.isnan(result.peak_reward) else f", peak progress {result.peak_reward:.2f}"
    line = f"{OUTCOMES[result.outcome]}: {result.reason} ({result.duration:.1f} s{peak})"
    judged = result.successes + result.failures + result.unlabelled
    if judged > 1:
        line += (
            f"; {result.successes} of {judged} episodes successes, {result.failures} failures, "
            f"{result.unlabelled} unlabelled"
        )
    return f"{line}; recorded in {result.bag}" if result.bag else line
