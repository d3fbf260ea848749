"""What a check says: each finding with its severity, what, where, expected, got, and the mend."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from rewact_ros.contract.problems import Problem
from rewact_ros.text import printable


class Severity(IntEnum):
    """As the levels of `/diagnostics`; NOT_ASKED: what the check needs was not given."""

    OK = 0
    WARN = 1
    ERROR = 2
    NOT_ASKED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes:
        severity: WARN: a robot can run like this; ERROR: it cannot, or must not.
        problem: key (topic, joint, file), expected, got, mend.
    """

    severity: Severity
    problem: Problem

    @property
    def text(self) -> str:
        """One line."""
        return printable(self.problem.text)


def error(key: str, expected: str = "", got: str = "", mend: str = "", fault: str = "") -> Finding:
    """What must be mended first; see `Problem` for the arguments."""
    return Finding(Severity.ERROR, Problem(key, expected, got, mend, fault))


def warning(
    key: str, expected: str = "", got: str = "", mend: str = "", fault: str = ""
) -> Finding:
    """What a robot can run with; see `Problem` for the arguments."""
    return Finding(Severity.WARN, Problem(key, expected, got, mend, fault))


@dataclass(frozen=True)
class Result:
    """One check.

    Attributes:
        name: of the check.
        findings: the gravest first; empty: all is well.
        not_asked: what was not given; the check then says nothing.
    """

    name: str
    findings: tuple[Finding, ...] = ()
    not_asked: str = ""

    @property
    def severity(self) -> Severity:
        """The gravest."""
        if self.not_asked:
            return Severity.NOT_ASKED
        return max((finding.severity for finding in self.findings), default=Severity.OK)

    @property
    def text(self) -> str:
        """One line: the first finding, and how many more there are."""
        if self.not_asked:
            return f"not asked: {self.not_asked}"
        if not self.findings:
            return "well"
        more = len(self.findings) - 1
        return f"{self.findings[0].text}{f' (and {more} more: --json)' if more else ''}"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        findings = [
            {"severity": f.severity.name.lower(), "text": f.text, **_told(f.problem)}
            for f in self.findings
        ]
        state = self.severity.name.lower()
        return {"check": self.name, "state": state, "text": self.text, "findings": findings}


def result(name: str, findings: Iterable[Finding]) -> Result:
    """The result of a check that was made."""
    ranked = sorted(findings, key=lambda finding: -finding.severity)
    return Result(name, tuple(dict.fromkeys(ranked)))


def _told(problem: Problem) -> dict[str, str]:
    names = ("key", "expected", "got", "mend", "fault")
    return {name: value for name, value in asdict(problem).items() if name in names and value}
