"""How many messages of a topic never arrived, by the sequence numbers of its publishers."""


class SequenceGaps:
    """Follows the numbers of several publishers, of which a message does not say which it is from.

    Every publisher counts its messages one by one. A number that continues none of the known
    streams is a gap in the one just below it; which one does not matter for the sum.
    """

    def __init__(self) -> None:
        self._publishers = 1
        self._last: list[int] = []  # the most recently heard last

    def expect(self, publishers: int) -> None:
        """Say how many publishers there are; streams of those that left are forgotten."""
        self._publishers = max(publishers, 1)
        del self._last[: -self._publishers]

    def lost(self, number: int) -> int:
        """Take the number of a message that arrived; how many before it did not."""
        last = self._last
        if number - 1 in last:
            last.remove(number - 1)
            last.append(number)
            return 0
        below = [n for n in last if n < number]
        if len(last) < self._publishers or not below:  # a publisher that was not heard yet
            last.append(number)
            return 0
        nearest = max(below)
        last.remove(nearest)
        last.append(number)
        return number - nearest - 1
