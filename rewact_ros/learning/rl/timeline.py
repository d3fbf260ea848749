"""What was in force when: values that hold from their time on, heard in any order."""

from bisect import bisect_right


class Timeline[T]:
    """Values by time.

    Attributes:
        heard_ns: time of the newest value, whether it changed anything or not.
    """

    def __init__(self) -> None:
        self.heard_ns = -1
        self._times: list[int] = []
        self._values: list[T] = []

    def add(self, time_ns: int, value: T) -> None:
        """Note that a value holds from a time on."""
        self.heard_ns = max(self.heard_ns, time_ns)
        place = bisect_right(self._times, time_ns)
        self._times.insert(place, time_ns)
        self._values.insert(place, value)

    def at(self, time_ns: int) -> tuple[int, T] | None:
        """The value in force at a time and since when; None: nothing was heard from so early."""
        place = bisect_right(self._times, time_ns) - 1
        return (self._times[place], self._values[place]) if place >= 0 else None

    def forget(self, before_ns: int) -> None:
        """Drop what ended before a time."""
        done = max(bisect_right(self._times, before_ns) - 1, 0)
        del self._times[:done], self._values[:done]
