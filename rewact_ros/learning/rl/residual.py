"""Algorithm ``residual``: a small network corrects the base's plan within bounds.

As in residual policy learning (Silver et al. 2018, arXiv:1812.06298): the base acts, what is
learned is added to it.
"""

from .algorithm import Algorithm

RESIDUAL = Algorithm(
    corrects=True,
    entropy=-0.5,  # half of SAC's -1 per dimension: the unit is the bound of a correction, so small
    needs=("residual_bound", "gripper_bound"),
    why="both are 0; nothing could be learned",
)
