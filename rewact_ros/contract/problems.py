"""What is wrong in a contract: each problem with key, what was expected, what came, the mend."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

# Of one file; a file that is no contract at all need not be read aloud.
MOST_SHOWN = 50
_PART = re.compile(
    r"(observation\.state|observation\.images\.[^\[]+?(?=\.\w+$|$)|[^.\[]+)(\[\d+\])?"
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a contract.

    Attributes:
        key: path of the key, such as `action[0].position.elbow`.
        expected, got: what should be there, and what is.
        mend: what to do, where `expected` does not say it.
        fault: words that stand for "expected …, got …".
        line: of the key in the file, or of the nearest key above it; 0: not of a file.
        at: key whose line it is, where that is another.
    """

    key: str
    expected: str = ""
    got: str = ""
    mend: str = ""
    fault: str = ""
    line: int = 0
    at: str = ""

    @property
    def part(self) -> str:
        """The section of the contract: `action[0]`, `observation.images.front`, `teleop.leader`."""
        if self.key.startswith("teleop."):
            return ".".join(self.key.split(".")[:2])
        found = _PART.match(self.key)
        return found[0] if found else ""

    @property
    def text(self) -> str:
        """One line, without that of the file."""
        what = self.fault or f"expected {self.expected}, got {self.got}"
        return f"{self.key}{': ' if self.key else ''}{what}{'; ' if self.mend else ''}{self.mend}"

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


class ContractError(ValueError):
    """A contract, or what must agree with it, is wrong; the message says where and how to mend.

    Attributes:
        problems: each thing that is wrong, where a contract was read.
    """

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


def refusal(
    key: str, expected: str = "", got: str = "", mend: str = "", fault: str = ""
) -> ContractError:
    """An error of one problem; see `Problem` for the arguments."""
    problem = Problem(key, expected, got, mend, fault)
    return ContractError(problem.text, [problem])


class Problems:
    """All that is wrong in one contract, in the order in which it was found."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(
        self,
        key: str,
        expected: str = "",
        got: str = "",
        mend: str = "",
        fault: str = "",
        at: str = "",
    ) -> None:
        """Note a problem; the same twice is one. See `Problem` for the arguments."""
        self._found.setdefault(Problem(key, expected, got, mend, fault, at=at))

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what a check inside refuses, and go on."""
        try:
            yield
        except ContractError as error:
            self._found |= dict.fromkeys(error.problems)

    def require_none(self) -> None:
        """Raise ContractError with all of them, if there are any."""
        if self._found:
            raise ContractError(shown(self._found), self._found)


def shown(problems: Iterable[Problem]) -> str:
    """The problems, one a line."""
    lines = [str(problem) for problem in problems]
    more = [f"… and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    return "\n".join([*lines[:MOST_SHOWN], *more])


def with_lines(problems: Iterable[Problem], lines: Mapping[str, int]) -> list[Problem]:
    """The problems in the order of a file, whose keys stand in `lines`."""
    placed = [
        replace(problem, line=_line(problem.at or problem.key, lines)) for problem in problems
    ]
    return sorted(placed, key=lambda problem: problem.line)


def _line(key: str, lines: Mapping[str, int]) -> int:
    """Line of a key, or of the nearest one above it: what is missing or an alias has none."""
    while key and key not in lines:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return lines.get(key, 1)
