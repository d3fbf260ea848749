"""Which recordings of ordinary work a calibration rests on."""

from dataclasses import dataclass
from pathlib import Path

from rewact_ros.settings import check, setting


@dataclass(frozen=True)
class DaySource:
    """Recordings of ordinary work, judged by people.

    Attributes:
        bags: folder of recorded episodes.
        timeout_s: of an episode; 0: as the shortest lasted that ended by it.
        driver: version of the policy that led; empty: the only one.

    Raises:
        ValueError: a time out of range.
    """

    bags: Path
    timeout_s: float = 0.0
    driver: str = ""
    reaction_s: float = setting(
        0.5,
        "from the true success to the key press of people who judge --bags",
        "s",
        0,
        10,
        option="reaction_s",
    )
    leave_unjudged: bool = setting(
        False,
        "leave episodes of --bags out that nobody judged: which were judged had nothing to do "
        "with how they went",
    )

    def __post_init__(self) -> None:
        check(self)
