"""The format that a side file carries, and what becomes of a file that carries another.

A file that a program writes has a whole number under `format`. A change that an older reader would
misread raises it; a key that an older reader may pass over does not.
"""

from collections.abc import Collection
from typing import Any

FORMAT_KEY = "format"
UPDATE = "written by a newer rewact_ros: update it"


class FormatError(ValueError):
    """A document of a format that this version does not read; the message says the way."""


def require_format(
    document: Any, own: int, mend: str, older: Collection[int] = (), absent: int | None = None
) -> int:
    """Check the format of a document before anything else of it is read.

    Args:
        document: as its file reads; the format stands under `format`.
        own: the format that this version writes.
        mend: the way with a file of an older format, or of none: a command, or where to put it.
        older: other formats that this version reads.
        absent: the format of a document that carries none; None: it must carry one.

    Returns:
        the document's format.

    Raises:
        FormatError: no mapping, or of another format; says expected, got and the way.
    """
    if not isinstance(document, dict):
        raise FormatError(f"expected a mapping of format {own}, got {document!r:.60}; {mend}")
    found = document.get(FORMAT_KEY, absent)
    number = found if isinstance(found, int) and not isinstance(found, bool) else None
    if number is not None and (number == own or number in older):
        return number
    way = UPDATE if number is not None and number > own else mend
    got = "none" if found is None else f"{found!r:.60}"
    raise FormatError(f"{FORMAT_KEY}: expected {own}, got {got}; {way}")
