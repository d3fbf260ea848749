"""Which episodes of the list are shown, and in which order."""

from collections.abc import Mapping
from typing import Any

from rewact_ros.data.review.rows import BAG, Row

SORTS = ("name", "outcome", "duration_s", "alarms", "gaps", "interventions")


def chosen(rows: list[Row], sort: str, descending: bool, where: Mapping[str, str]) -> list[Row]:
    """The rows that fit, in order; those of which the value is not known come last.

    Args:
        rows: all.
        sort: one of `SORTS`.
        descending: the other way round.
        where: see `Library.page`.
    """
    rows = [row for row in rows if _fits(row, where)]
    known = [row for row in rows if _value(row, sort) is not None]
    unknown = [row for row in rows if _value(row, sort) is None]
    known.sort(key=lambda row: (_value(row, sort), row.source, row.name), reverse=descending)
    return known + unknown


def _fits(row: Row, where: Mapping[str, str]) -> bool:
    for key in ("source", "outcome", "state"):
        if where.get(key) and getattr(row, key) != where[key]:
            return False
    text = where.get("text", "").casefold()
    return not text or any(
        text in value.casefold() for value in (row.name, row.task, row.tag, row.note, row.source)
    )


def _value(row: Row, sort: str) -> Any:
    if sort == "gaps":
        known = [n for n in (row.lost, row.missing) if n is not None]
        return sum(known) if known else None
    if sort == "name":
        # A dataset's episodes by number: `episode 10` comes after `episode 9`.
        words = row.name.split()
        return (row.source, int(words[1]) if row.kind != BAG and len(words) > 1 else 0, row.name)
    return getattr(row, sort)
