"""What a header stamp may be: one rule for live nodes, the recorder and whoever reads recordings.

A stamp says when something was seen. That was not in the future, not long ago, and not before what
was seen last. A stamp of another clock breaks one of these; it is refused before it is compared
with anything, since one of 2038 would make every right one after it look late.
"""

NANO = 1_000_000_000
# Clocks of hosts that are kept in step differ by milliseconds, and /clock lags by a tick.
AHEAD_S = 0.5
# Longer than any picture, inference or message is under way.
LATE_S = 5.0
# Receipts of one topic come in order but for the slewing of the clock: more is time running back.
BACK_S = 0.05


def stamp_fault(
    stamp_ns: int,
    now_ns: int,
    since_ns: int | None = None,
    ahead_s: float = AHEAD_S,
    late_s: float = LATE_S,
) -> str:
    """Why a stamp cannot be that of something just seen, or an empty string.

    Args:
        stamp_ns: from the message's header.
        now_ns: of the clock that stamps are of (ROS time; in a recording the time of receipt).
        since_ns: when what the message belongs to began; None: that does not matter.
        ahead_s, late_s: how far it may lie after and before `now_ns`.
    """
    if stamp_ns == 0:
        return "header stamp is zero: its publisher must set header.stamp"
    if now_ns <= 0:
        return "no /clock has come yet, though use_sim_time is set"
    ahead = (stamp_ns - now_ns) / NANO
    if ahead > ahead_s:
        return (
            f"header stamp is {ahead:.2f} s ahead, allowed {ahead_s:g} s; compare the clocks and "
            "use_sim_time"
        )
    if -ahead > late_s:
        return (
            f"header stamp is {-ahead:.2f} s old, allowed {late_s:g} s; compare the clocks and "
            "use_sim_time"
        )
    if since_ns is not None and stamp_ns < since_ns:
        return f"header stamp is {(since_ns - stamp_ns) / NANO:.2f} s before the beginning"
    return ""


def ran_back(now_ns: int, last_ns: int) -> bool:
    """Whether a clock has run backwards, rather than been slewed."""
    return last_ns - now_ns > BACK_S * NANO


class Stamps:
    """The stamps of one stream in the order of their receipt; those that cannot be are refused.

    A refused stamp leaves no trace: the next right one is taken. Where the clock itself runs
    backwards (a simulation or a played recording begins anew), so may the stamps.

    Attributes:
        refused: how many were.
    """

    def __init__(self, ahead_s: float = AHEAD_S, late_s: float = LATE_S) -> None:
        self.refused = 0
        self._ahead_s, self._late_s = ahead_s, late_s
        self._last_ns: int | None = None
        self._now_ns = 0

    def fault(self, stamp_ns: int, now_ns: int, since_ns: int | None = None) -> str:
        """Take the next stamp; why it is refused (see `stamp_fault`), or an empty string."""
        if ran_back(now_ns, self._now_ns):
            self._last_ns = None
        self._now_ns = now_ns
        fault = stamp_fault(stamp_ns, now_ns, since_ns, self._ahead_s, self._late_s)
        if not fault and self._last_ns is not None and stamp_ns < self._last_ns:
            back_s = (self._last_ns - stamp_ns) / NANO
            fault = f"header stamp is {back_s:.3f} s before the last one; is there one publisher?"
        if fault:
            self.refused += 1
        else:
            self._last_ns = stamp_ns
        return fault
