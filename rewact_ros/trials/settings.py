"""How the trials of a comparison are scored, and who says so."""

from dataclasses import dataclass

from rewact_ros.settings import check, setting


@dataclass(frozen=True)
class TrialSettings:
    """Who judges, and what a failure is worth.

    Raises:
        ValueError: a number out of range, or settings that contradict each other.
    """

    judge: str = setting(
        "person",
        "who judges on the robot; in simulation its truth does",
        choices=("person", "supervisor"),
    )
    calibration: str = setting(
        "",
        "calibration.json of the supervisor's judge, whose errors are folded in; empty: they are "
        "not",
        path=True,
    )
    partial: bool = setting(False, "a failure scores the progress that it reached, not 0")
    run_time_s: float = setting(
        0.0,
        "running time of a robot's trial; 0: the supervisor's own",
        "s",
        0,
        86400,
        option="run_time",
    )
    scenes: int = setting(
        0, "scenes that repeat on the robot, a block each; 0: another in each block", low=0
    )
    first_scene: int = setting(
        100_000, "simulated scene of the first block; from 200000: reported figures", low=0
    )

    def __post_init__(self) -> None:
        check(self)
        if self.calibration and (self.judge == "person" or self.partial):
            raise ValueError(
                "calibration: expected --judge supervisor and whole verdicts, whose error rates it "
                "has; leave it out"
            )
