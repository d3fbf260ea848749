"""Action parts that are commanded but not observed: what takes the place of a measurement.

Where such a joint is, is what was last sent to it; before the first command it is `rest`.
"""

from collections.abc import Iterable, Sequence

from rewact_ros.contract.problems import Problems
from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY
from rewact_ros.contract.sections import Section


def check_rest(section: Section) -> None:
    """Note a part whose `observed` and `rest` do not belong together; sets `rest` to numbers."""
    problems, rest = section.problems, section.get("rest")
    if section.get("observed") is None:
        return
    if section.get("observed"):
        if "rest" in section:
            mend = "leave it out: the joints are measured"
            problems.add(section.path("rest"), "observed: false beside it", "none", mend)
        section.values["rest"] = ()
        return
    if "rest" not in section:
        mend = "give what is sent to it on arming, before anything else was sent"
        problems.add(section.path("rest"), fault="missing beside observed: false", mend=mend)
    if section.get("command") == "velocity":
        mend = "only what is commanded by position stays where it was sent"
        problems.add(section.path("observed"), "true for velocities", "false", mend)
    joints, positions = section.get("joints"), section.per_joint.get("position")
    if "rest" not in section or joints is None or rest is None or positions is None:
        return
    for joint, value, limits in zip(joints, rest, positions, strict=True):
        if limits and not limits[0] <= value <= limits[1]:
            problems.add(
                f"{section.path('rest')}.{joint}",
                f"within [{limits[0]:g}, {limits[1]:g}]",
                f"{value:g}",
            )


def check_observed(actions: Sequence[Section], measured: Iterable[str], problems: Problems) -> None:
    """Note joints that are commanded and not measured, or said not to be observed and measured.

    Args:
        actions: parts whose joints are known.
        measured: joints whose positions are observed.
        problems: takes what is wrong.
    """
    known = set(measured)
    for part in actions:
        blind = part.get("observed") is False
        for joint in part.get("joints") or () if part.get("observed") is not None else ():
            if joint in known and blind:
                problems.add(
                    part.path("observed"),
                    fault=f"{joint} is in {STATE_KEY}",
                    mend="leave out observed: false, and rest",
                )
            elif joint not in known and not blind:
                problems.add(
                    f"{ACTION_KEY}.joints",
                    fault=f"{joint} is commanded but its position is not in {STATE_KEY}",
                    mend="the start-jump guard needs it",
                )
    if actions and all(part.get("observed") is False for part in actions):
        mend = "an arm that nobody sees cannot be moved safely"
        problems.add(f"{ACTION_KEY}.observed", "a part that is observed", "none", mend)
