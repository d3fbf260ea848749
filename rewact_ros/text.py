"""Texts of others made fit to be shown: whoever sends them may write to the terminal otherwise."""

import errno

# Longer ones are nobody's honest reason, name or path.
TEXT_LIMIT = 2000
_MENDS = (
    ((errno.ENOSPC, errno.EDQUOT), "make room, or name a folder on another disk"),
    (
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "name a folder that you may use, or get the right",
    ),
    ((errno.EMFILE, errno.ENFILE), "close programs, or raise the limit (ulimit -n)"),
    (
        (errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
        "check the path: a file stands where a folder should, or so",
    ),
    ((errno.ENAMETOOLONG,), "give a shorter name"),
    ((errno.ENOENT, errno.ELOOP), "check the path"),
)


def reason(error: BaseException, about: object = "") -> str:
    """What an exception says; of the operating system's the file, what is wrong, and the mend.

    `about` is the file that the message names before this already.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return str(error).removeprefix(f"{about}: ")
    where = " -> ".join(str(f) for f in (error.filename, error.filename2) if f is not None)
    told = f"{where}: {error.strerror}" if where else str(error.strerror or error)
    mend = next((words for numbers, words in _MENDS if error.errno in numbers), "")
    return (f"{told}; {mend}" if mend else told).removeprefix(f"{about}: ")


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
