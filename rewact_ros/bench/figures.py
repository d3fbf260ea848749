"""One topic of `rewact bench`: what its `run` fills in, and the document that keeps it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rewact_ros.sim.task import DEFAULT_TASK

ENDED_EARLY = "ended early"  # setting of a run that an error or a kill ended: which


@dataclass(frozen=True)
class Figure:
    """One measured number; `low` and `high` bound it where an interval is known.

    What is measured twice in one run goes into a figure of the unit `ratio`: those are compared
    with the published ones by `rewact bench compare`.
    """

    value: float | None
    unit: str
    goal: str = ""
    n: int = 1
    low: float | None = None
    high: float | None = None


@dataclass
class Bench:
    """What a topic's `run(bench)` fills in; it may name its results by another topic.

    Attributes:
        task: simulated task; a topic whose file says `ANY_TASK = True` measures on any.
        only: of a topic with parts (`PARTS = True`), these; (): all.
        workers: of a topic with `SIDE_BY_SIDE = True`: parts that are measured at a time.
    """

    topic: str
    quick: bool
    folder: Path
    task: str = DEFAULT_TASK
    only: tuple[str, ...] = ()
    workers: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)

    def add(self, name: str, value: float | None, unit: str, **more: Any) -> None:
        """Record one figure and show it at once."""
        self.figures[name] = Figure(value, unit, **more)
        shown = "–" if value is None else f"{value:.4g}"
        print(f"  {name}: {shown} {unit}")

    def keep_parts(self, settings: Iterable[str]) -> None:
        """Take over what the last run in `folder` measured; what this one measures replaces it.

        Call it first: a run that ends early then leaves the other parts as they were.

        Args:
            settings: names of those that must be equal; of another run nothing is taken.
        """
        file = self.folder / f"{self.topic}.json"
        if not self.only or not file.exists():
            return
        earlier = json.loads(file.read_text())
        own = {"quick": self.quick, **self.settings}
        if any(earlier["settings"].get(name) != own.get(name) for name in ("quick", *settings)):
            return
        kept = {name: Figure(**one) for name, one in earlier["figures"].items()}
        self.figures = kept | self.figures  # in the order of the earlier one
        earlier["settings"].pop(ENDED_EARLY, None)
        self.settings = earlier["settings"] | self.settings

    def document(self, before: dict[str, Any]) -> dict[str, Any]:
        """All of it as JSON takes it; ``before``: the machine when it began."""
        return {
            "topic": self.topic,
            "machine": before,
            "settings": {"quick": self.quick, **self.settings},
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }
