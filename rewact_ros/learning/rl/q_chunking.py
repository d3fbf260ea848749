"""Algorithm ``q_chunking``: the critics choose among the base's own chunks; no actor is trained.

As the best-of-N variant of Q-chunking does (Li, Zhou and Levine 2025, arXiv:2507.07969).
"""

from .algorithm import Algorithm
from .candidates import BaseCandidates

Q_CHUNKING = Algorithm(
    usual={"enable_q_chunking": True, "speeds": (1.0, 1.5, 2.0, 3.0)},
    has_actor=False,
    candidates=BaseCandidates,
    needs=("enable_q_chunking",),
    why="q_chunking judges whole chunks; set it to true",
)
