"""How a look at a graph waits: for discovery, and for answers."""

from collections.abc import Callable

# Takes messages until a condition holds, for so many seconds at most; whether it came to hold.
Spin = Callable[[Callable[[], bool], float], bool]
# Discovery of a service may take 2.4 s; then a controller answers at once, or is none.
PARAMETER_TIMEOUT_S = 5.0
