"""Ctrl-C and kill as a flag that a loop asks for."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Inside ``with``, a signal only sets ``given``; afterwards it is a KeyboardInterrupt.

    An exception raised by a signal is lost where Python happens to run a destructor, and a loop
    over a ROS executor runs many. Signals come to the main thread; in another one nothing is given.
    """

    def __init__(self) -> None:
        self.given = False

    def __enter__(self) -> "StopRequest":
        numbers = SIGNALS if _in_main_thread() else ()
        self._before = {number: signal.signal(number, self._take) for number in numbers}
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


@contextlib.contextmanager
def killed_is_interrupted() -> Iterator[None]:
    """A kill and a closed terminal raise KeyboardInterrupt inside, as Ctrl-C does.

    The default would end the process without the ends of its ``with`` statements. What the program
    has set itself stays.
    """
    numbers = SIGNALS if _in_main_thread() else ()
    unset = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in unset:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in unset:
            signal.signal(number, signal.SIG_DFL)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
