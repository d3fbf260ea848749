"""Samples as the text that Prometheus reads (exposition format 0.0.4).

What stands in a label may come from anybody on the graph: it is made printable, cut and escaped,
and the samples of one text are bounded in number.
"""

import math
from dataclasses import dataclass

from rewact_ros.text import printable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# A ROS name has at most 255 characters, of which a person tells robots apart by fewer.
LABEL_LIMIT = 120
MOST_SAMPLES = 5000


@dataclass(frozen=True)
class Family:
    """Samples of one name.

    Attributes:
        name: such as ``rewact_mode``; a counter's ends with ``_total``.
        kind: ``gauge`` or ``counter``.
        meaning: one line, for people.
        labels: names of the labels that each of its samples has.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


class Exposition:
    """The samples of one moment.

    Attributes:
        left_out: samples that had no room, or whose labels were there already.
    """

    def __init__(self, most: int = MOST_SAMPLES) -> None:
        self.left_out = 0
        self._most, self._count = most, 0
        self._samples: dict[Family, dict[tuple[str, ...], float]] = {}

    def add(self, family: Family, value: float, *labels: object) -> None:
        """Add a sample with the values of its family's labels; what is not finite is unknown.

        Two labels may become the same when they are cut: the first keeps its place, for a text
        with a sample twice is refused as a whole.
        """
        try:
            number = float(value)
        except OverflowError:  # a whole number from JSON may have any length
            return
        if not math.isfinite(number):
            return
        of = self._samples.setdefault(family, {})
        key = tuple(printable(label, LABEL_LIMIT) for label in labels)
        if self._count >= self._most or key in of:
            self.left_out += 1
            return
        self._count += 1
        of[key] = number

    def text(self) -> str:
        """All samples, those of a family together; ends with a line feed, as the format asks."""
        lines = []
        for family, samples in self._samples.items():
            if samples:
                lines.append(f"# HELP {family.name} {_escaped(family.meaning)}")
                lines.append(f"# TYPE {family.name} {family.kind}")
            for key, value in samples.items():
                pairs = zip(family.labels, key, strict=True)
                inside = ",".join(f'{name}="{_quoted(label)}"' for name, label in pairs)
                braces = f"{{{inside}}}" if inside else ""
                lines.append(f"{family.name}{braces} {value!r}")
        return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
