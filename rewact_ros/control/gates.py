"""One gate of a robot whose parts are of several kinds: joints, poses, twists."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Contract, ContractError, Limits
from rewact_ros.control.limits import Gated, SafetyGate, VelocityGate, make_gate
from rewact_ros.control.pose_gate import PoseGate, TwistGate
from rewact_ros.control.space import POSE_WIDTH
from rewact_ros.control.violations import Violation, non_finite

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """A gate and the columns of a command (A,) that it guards."""

    columns: NDArray[np.intp]
    gate: SafetyGate | PoseGate


class PartGates:
    """The gates of all parts as one, of commands (A,); see `SafetyGate` for the methods.

    Args:
        contract: of a robot with Cartesian parts; its joints are commanded by position.

    Raises:
        ContractError: joints are commanded by velocity.
    """

    def __init__(self, contract: Contract) -> None:
        by_velocity = [part.topic for part in contract.action if part.command == "velocity"]
        if by_velocity:
            raise ContractError(
                f"action.command: '{by_velocity[0]}' is commanded by velocity beside a Cartesian "
                "part; a robot that has both needs a hil and a contract for each"
            )
        limits, period_s = contract.limits, 1.0 / contract.command_rate_hz
        self._width = len(contract.action_names)
        self._parts: list[_Part] = []
        if contract.joint_columns.size:
            joints = contract.joint_columns
            self._parts.append(_Part(joints, SafetyGate(_of(limits, joints), period_s)))
        self.twists: dict[str, TwistGate] = {}
        parts = [part for part in contract.action if part.name]
        for first, part in zip(contract.poses, parts, strict=True):
            columns = np.arange(first, first + POSE_WIDTH)
            gate = (TwistGate if part.command == "twist" else PoseGate)(
                _of(limits, columns), period_s
            )
            if isinstance(gate, TwistGate):
                self.twists[part.name] = gate
            self._parts.append(_Part(columns, gate))
        self._measured: FloatArray | None = None

    def see(self, measured: FloatArray | None) -> None:
        """Take where the robot is (A,), for what happens at rest."""
        self._measured = measured

    @property
    def position(self) -> FloatArray:
        """Last command, (A,). Raises RuntimeError before `start`."""
        return self._joined([part.gate.position for part in self._parts])

    @property
    def velocity(self) -> FloatArray:
        """Velocity of the last command, (A,)."""
        return self._joined([part.gate.velocity for part in self._parts])

    @property
    def moving(self) -> bool:
        """Whether some part moves."""
        return any(part.gate.moving for part in self._parts)

    def start(self, measured: FloatArray) -> None:
        """Begin a stream at rest from where the robot is (A,)."""
        for part in self._parts:
            part.gate.start(measured[part.columns])

    def stop_stream(self) -> None:
        """Forget the stream, when falling silent."""
        for part in self._parts:
            part.gate.stop_stream()

    def check(self, target: FloatArray, measured: FloatArray) -> tuple[Violation, ...]:
        """What a next target (A,) asks beyond the limits, changing nothing."""
        beyond = non_finite(target, self._width)
        if beyond:
            return beyond
        found = [
            _renumbered(part, part.gate.check(target[part.columns], measured[part.columns]))
            for part in self._parts
        ]
        return tuple(violation for violations in found for violation in violations)

    def apply(self, target: FloatArray, measured: FloatArray) -> Gated | None:
        """Bound the next command; None when a part of it is not finite (the caller brakes all)."""
        if non_finite(target, self._width) or non_finite(measured, self._width):
            return None
        gated = [
            part.gate.apply(target[part.columns], measured[part.columns]) for part in self._parts
        ]
        whole = [each for each in gated if each is not None]
        assert len(whole) == len(gated)  # all is finite
        violations = [
            _renumbered(part, each.violations)
            for part, each in zip(self._parts, whole, strict=True)
        ]
        return Gated(
            self._joined([each.command for each in whole]),
            any(each.clipped for each in whole),
            tuple(violation for some in violations for violation in some),
        )

    def brake(self) -> FloatArray:
        """Next command of a stop of all parts; constant once at rest."""
        measured = self._measured
        sent = []
        for part in self._parts:
            if isinstance(part.gate, SafetyGate):
                sent.append(part.gate.brake())
            else:
                sent.append(part.gate.brake(None if measured is None else measured[part.columns]))
        return self._joined(sent)

    def _joined(self, values: list[FloatArray]) -> FloatArray:
        whole = np.empty(self._width)
        for part, some in zip(self._parts, values, strict=True):
            whole[part.columns] = some
        return whole


Gate = SafetyGate | VelocityGate | PartGates


def gate_of(contract: Contract) -> Gate:
    """The gate of a robot.

    Raises:
        ContractError: its parts are commanded in kinds that do not go together.
    """
    return PartGates(contract) if contract.poses else make_gate(contract)


def _renumbered(part: _Part, violations: tuple[Violation, ...]) -> tuple[Violation, ...]:
    return tuple(replace(each, joint=int(part.columns[each.joint])) for each in violations)


def _of(limits: Limits, columns: NDArray[np.intp]) -> Limits:
    return Limits(**{name: values[columns] for name, values in vars(limits).items()})
