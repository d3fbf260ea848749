"""Texts of others made fit to be shown: whoever sends them may write to the terminal otherwise."""

# Longer ones are nobody's honest reason, name or path.
TEXT_LIMIT = 2000


def printable(text: object, limit: int = TEXT_LIMIT) -> str:
    """One line of at most `limit` characters; control characters are shown as escapes.

    Escape sequences colour and clear a terminal, line ends forge lines of a log, and marks of
    direction (U+202E) show something else than what is there.
    """
    shown = str(text)[: limit + 1]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def printable_lines(text: object, limit: int = TEXT_LIMIT) -> str:
    """As `printable`, but line ends stay: for a text that is shown by itself."""
    return "\n".join(printable(line, limit) for line in str(text)[: 10 * limit].split("\n"))
