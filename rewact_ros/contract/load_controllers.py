"""The `controllers` section: what controller_manager switches when the robot is armed."""

from rewact_ros.contract.problems import Problems
from rewact_ros.contract.schema import Controllers
from rewact_ros.contract.sections import Section
from rewact_ros.contract.tables import CONTROLLERS


def controllers(top: Section, problems: Problems) -> Controllers | None:
    """The section; None where there is none, or where something in it is wrong."""
    if top.data.get("controllers") is None:
        return None
    section = Section("controllers", top.data["controllers"], CONTROLLERS, problems)
    both = set(section.get("activate") or ()) & set(section.get("deactivate") or ())
    if both:
        name = sorted(both)[0]
        problems.add("controllers.deactivate", "others than those of activate", name)
    return Controllers(**section.values) if section.whole else None
