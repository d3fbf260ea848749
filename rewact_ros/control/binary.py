"""A command that only opens or closes: threshold, hysteresis, a shortest time between changes."""

from rewact_ros.contract.schema import Binary


class BinarySwitch:
    """Turns a stream of positions into `open` or `closed`.

    Attributes:
        state: the command in force, in the joint's unit; None before the first.
    """

    def __init__(self, binary: Binary) -> None:
        self._binary = binary
        self._sign = 1.0 if binary.open > binary.closed else -1.0
        self.state: float | None = None
        self._changed_s = 0.0

    def step(self, value: float, now_s: float) -> float:
        """The command in force after a new position; the first decides by the threshold alone."""
        binary = self._binary
        opening = (value - binary.threshold) * self._sign
        if self.state is None:
            return self._change(binary.open if opening >= 0 else binary.closed, now_s)
        if now_s - self._changed_s < binary.min_interval_s:
            return self.state
        if self.state == binary.closed and opening > binary.hysteresis / 2:
            return self._change(binary.open, now_s)
        if self.state == binary.open and opening < -binary.hysteresis / 2:
            return self._change(binary.closed, now_s)
        return self.state

    def forget(self) -> None:
        """What the gripper does now is not known any more; the next position decides anew."""
        self.state = None

    def _change(self, state: float, now_s: float) -> float:
        self.state, self._changed_s = state, now_s
        return state
