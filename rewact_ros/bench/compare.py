"""`rewact bench compare`: whether ratios measured here still hold against the published ones.

Times differ from machine to machine; ratios of two measurements in one run mostly do not. A ratio
is a figure whose unit is `ratio`; more is better, unless its goal is an upper limit.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATIO = "ratio"
KEPT_SHARE = 0.8  # of a published ratio, and its own interval on top: less is a regression


@dataclass(frozen=True)
class ComparedRatio:
    """One published ratio beside the one measured here.

    Attributes:
        name: `TOPIC: FIGURE`.
        published, measured: None: not measured here.
        bound: the worst value that counts as kept.
        kept: None where a quick run left it out.
    """

    name: str
    published: float
    measured: float | None
    bound: float
    kept: bool | None


def compare_topics(
    measured: Path, published: Path, topics: Iterable[str] = ()
) -> list[ComparedRatio]:
    """Compare results in one folder with those in another.

    Args:
        measured: folder of TOPIC.json as `rewact bench` writes them.
        published: folder of those that are committed.
        topics: which; none: all that are in both.

    Raises:
        ValueError: a topic is missing in one of them, or there is none at all.
    """
    chosen = tuple(topics)
    both = sorted(f.stem for f in published.glob("*.json") if (measured / f.name).is_file())
    for topic in chosen:
        if topic not in both:
            raise ValueError(
                f"bench compare: {topic}: expected {measured / topic}.json and "
                f"{published / topic}.json; measure it with `rewact bench {topic}`; "
                f"in both: {', '.join(both) or 'none'}"
            )
    if not both:
        raise ValueError(
            f"bench compare: no topic is both in {measured} and in {published}; "
            "measure one with `rewact bench TOPIC`"
        )
    return [
        row
        for topic in chosen or both
        for row in compare(
            json.loads((measured / f"{topic}.json").read_text()),
            json.loads((published / f"{topic}.json").read_text()),
        )
    ]


def compare(measured: dict[str, Any], published: dict[str, Any]) -> list[ComparedRatio]:
    """Compare the ratios of one topic; what a full run no longer has counts as lost."""
    rows = []
    for name, figure in published["figures"].items():
        if figure["unit"] != RATIO or not figure["value"]:
            continue
        value = figure["value"]
        less_is_better = figure["goal"].startswith(("≤", "<"))
        if less_is_better:
            bound = max(value / KEPT_SHARE, figure["high"] or value)
        else:
            bound = min(KEPT_SHARE * value, figure["low"] or value)
        got = measured["figures"].get(name, {}).get("value")
        kept: bool | None = None
        if got is not None:
            kept = got <= bound if less_is_better else got >= bound
        elif not measured["settings"].get("quick"):
            kept = False
        rows.append(ComparedRatio(f"{published['topic']}: {name}", value, got, bound, kept))
    return rows
