"""The live panel of `rewact learn`: the same figures in process and over topics."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

# name of the figure: (label, how it is written)
SHOWN = {
    "success": ("success, last 20 episodes", "{:.0%}"),
    "success_alone": ("success without a human", "{:.0%}"),
    "minutes_to_target": ("robot minutes to the target", "{:.0f}"),
    "interventions": ("interventions per episode", "{:.2f}"),
    "human_share": ("share of time led by the human", "{:.0%}"),
    "return": ("return", "{:.3f}"),
    "duration_s": ("last episode, s", "{:.1f}"),
    "episodes": ("episodes", "{:.0f}"),
    "robot_min": ("robot time, min", "{:.1f}"),
    "q": ("Q", "{:.3f}"),
    "calibration_gap": ("Q less return", "{:.3f}"),
    "entropy": ("entropy, nats", "{:.2f}"),
    "bc_weight": ("weight of imitation", "{:.3f}"),
    "actor_share": ("share of decisions by the actor", "{:.0%}"),
    "speed": ("speed of the last episode", "{:.2f}"),
    "updates": ("updates", "{:.0f}"),
    "updates_per_s": ("updates/s", "{:.1f}"),
    "online_steps": ("online buffer, steps", "{:.0f}"),
    "demo_steps": ("demo buffer, steps", "{:.0f}"),
    "validation_success": ("validation success (truth)", "{:.0%}"),
}


def panel(figures: Mapping[str, float], text: str = "") -> "Table":
    """Draw what is known; an extrapolation that cannot be made is `unknown`.

    Args:
        figures: by name.
        text: one line above them.
    """
    from rich.table import Table
    from rich.text import Text

    caption = Text(text) if text else None  # no markup: others wrote some of it
    table = Table("figure", "now", title="rewact learn", caption=caption)
    for name, (label, form) in SHOWN.items():
        if name in figures:
            value = figures[name]
            table.add_row(label, "unknown" if math.isnan(value) else form.format(value))
    return table
