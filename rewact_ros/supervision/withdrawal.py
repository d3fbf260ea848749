"""When a calibrated bound holds no more, because the world is not what it was calibrated in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from rewact_ros.supervision.camera_check import View, camera_faults
from rewact_ros.supervision.drift import Beginning, Drift, read_drift
from rewact_ros.supervision.signals import Signals
from rewact_ros.supervision.world import World

WITHDRAWN = "bound: withdrawn"


class OnWithdrawal(StrEnum):
    """What happens to the thresholds of a bound that is withdrawn.

    KEEP: they judge on, without a promise. FALLBACK: the supervisor's parameters judge. REFUSE: no
    episode begins.
    """

    KEEP = "keep"
    FALLBACK = "fallback"
    REFUSE = "refuse"


@dataclass(frozen=True)
class BoundState:
    """What is known of a bound; it survives a restart.

    Attributes:
        of: of which calibration, by its `key`.
        drift: the test of the scores.
        reason: why the bound is withdrawn, or an empty string.
    """

    of: str = ""
    drift: Drift = field(default_factory=Drift)
    reason: str = ""


def read_bound_state(raw: Mapping[str, Any]) -> BoundState:
    """What ``asdict`` has written of one.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is something else.
    """
    return BoundState(str(raw["of"]), read_drift(raw["drift"]), str(raw["reason"]))


class BoundWatch:
    """Watches whether what runs is still what was calibrated; withdrawn is withdrawn.

    Only another calibration brings a bound back, or a person who has mended the cause and says so.

    Attributes:
        state: what is known.
        claimed: whether what runs is what was calibrated, so that it may be compared.

    Args:
        world: of the calibration.
        key: of the calibration.
        state: as it was remembered; of another calibration it counts for nothing.
        keep: is given the state whenever it changes.
        rng: decides between equal ranks.
    """

    def __init__(
        self,
        world: World,
        key: str,
        state: BoundState,
        keep: Callable[[BoundState], None],
        rng: np.random.Generator | None = None,
    ) -> None:
        self.state = state if state.of == key else BoundState(key)
        self.claimed = False
        self._world, self._keep = world, keep
        self._rng = rng or np.random.default_rng()
        self._beginning = Beginning()
        self._heard: set[str] = set()
        self._views: dict[str, View] = {}

    @property
    def reason(self) -> str:
        """Why the bound is withdrawn, or an empty string."""
        return self.state.reason

    # Cameras ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """An episode's reset is over, and the arm rests."""
        self._views.clear()
        self._beginning = Beginning()

    def look(self, camera: str, view: View) -> None:
        """Take what a camera shows."""
        if camera in self._world.cameras:
            self._heard.add(camera)
            self._views[camera] = view

    @property
    def awaits(self) -> bool:
        """Whether a camera that is heard of has not been seen since the reset."""
        return self.claimed and not self.reason and not self._heard <= self._views.keys()

    def compare(self) -> str:
        """Compare what the cameras show before the policy leads; returns a new reason, or ""."""
        if not self.claimed or self.reason:
            return ""
        faults = camera_faults(self._views, self._world.cameras)
        return self._withdraw("; ".join(faults.values()))

    # Scores -----------------------------------------------------------------------------------

    def add(self, signals: Signals, alone: bool) -> str:
        """Take the signals after a reward; returns a new reason, or "".

        Args:
            signals: of an episode that the policy leads.
            alone: nobody else has led in it, and nobody was waited for.
        """
        if not alone or not self.claimed:
            self._beginning.spoil()
        scores, reference = self._beginning.add(signals), self._world.drift
        if not scores or reference is None or self.reason:
            return ""
        drift = self.state.drift.add(scores, reference, self._rng)
        self._store(replace(self.state, drift=drift))
        return self._withdraw(drift.found(reference))

    def renew(self) -> None:
        """A person has mended the cause: the bound is claimed again, and the test begins anew."""
        self._store(BoundState(self.state.of))

    def _withdraw(self, reason: str) -> str:
        if not reason or self.state.reason:
            return ""
        self._store(replace(self.state, reason=reason))
        return reason

    def _store(self, state: BoundState) -> None:
        self.state = state
        self._keep(state)
