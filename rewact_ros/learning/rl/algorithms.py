"""The table of algorithms: a new one is a file with its row, and a line here."""

from .act_sac import ACT_SAC
from .algorithm import Algorithm
from .q_chunking import Q_CHUNKING
from .residual import RESIDUAL

ALGORITHMS: dict[str, Algorithm] = {
    "residual": RESIDUAL,
    "act_sac": ACT_SAC,
    "q_chunking": Q_CHUNKING,
}
DEFAULT = "residual"  # of settings alone; the command and the node say act_sac
CRITICS_ONLY = "q_chunking"  # trains no actor, so that the base can be driven by itself
