"""Ctrl-C and kill as a flag that a loop asks for."""

import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Inside ``with``, a signal only sets ``given``; afterwards it is a KeyboardInterrupt.

    An exception raised by a signal is lost where Python happens to run a destructor, and a loop
    over a ROS executor runs many.
    """

    def __init__(self) -> None:
        self.given = False

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.given and kind is None:
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.given = True
