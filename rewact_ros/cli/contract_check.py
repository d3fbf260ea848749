"""The check of a contract by itself: what every command does first, and `rewact contract check`.

Nothing here loads typer, NumPy or ROS, so that a wrong contract is told in a blink.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rewact_ros.contract.load import load_contract
from rewact_ros.contract.names import check_namespace
from rewact_ros.contract.problems import ContractError, Problem
from rewact_ros.contract.report import problem_line, problem_record, summary

WRONG = 2
# The word of `record` and `console` for a robot without a contract; it is no file.
NO_CONTRACT = "none"


def check_contract(file: Path, namespace: str = "/", as_json: bool = False) -> int:
    """Print everything that is wrong in a contract; returns the exit code, 0 or WRONG."""
    space, contract = check_namespace("--namespace", namespace), None
    problems: tuple[Problem, ...] = ()
    try:
        contract = load_contract(file, space)
    except ContractError as error:
        problems = error.problems
    if as_json:
        hash_ = contract.hash if contract else ""
        errors = [problem_record(problem) for problem in problems]
        print(json.dumps({"file": str(file), "hash": hash_, "errors": errors}, indent=2))
    elif contract:
        print(f"{file}: well. {summary(contract)}; hash {contract.hash[:12]}")
    else:
        for problem in problems:
            print(_printable(problem_line(file, problem)), file=sys.stderr)
        plural = "s" if len(problems) > 1 else ""
        print(f"{file}: {len(problems)} error{plural}", file=sys.stderr)
    return 0 if contract else WRONG


def plain_check(words: Sequence[str]) -> Path | None:
    """The file of `rewact contract check FILE` without options; None: another command line."""
    plain = len(words) == 3 and tuple(words[:2]) == ("contract", "check")
    return Path(words[2]) if plain and not words[2].startswith("-") else None


def check_named(words: Sequence[str]) -> None:
    """Check the contract that a command line names by `--contract`, before anything is loaded.

    Raises:
        ContractError: it is wrong, with all that is.
    """
    file, namespace = _option(words, "--contract"), _option(words, "--namespace")
    if file and file != NO_CONTRACT:
        load_contract(file, check_namespace("--namespace", namespace or "/"))


def _option(words: Sequence[str], name: str) -> str:
    """Value of an option as `--name value` or `--name=value`; the last counts, as for typer."""
    value = ""
    for i, word in enumerate(words):
        if word == "--":
            break
        if word.startswith(f"{name}="):
            value = word.partition("=")[2]
        elif word == name and i + 1 < len(words):
            value = words[i + 1]
    return value


def _printable(text: str) -> str:
    """Without what would steer a terminal: names come from files of others."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
