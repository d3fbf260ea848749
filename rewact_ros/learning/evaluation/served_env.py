"""A Gymnasium environment that another Python environment serves (`env_server.py`)."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Mapping
from typing import Any

import gymnasium
from numpy.typing import NDArray

from .env_server import LONGEST, PROTOCOL, EnvError, FrameError, receive, send

_CONNECT_S = 5.0
_LOCAL = ("127.0.0.1", "localhost")
_START = "start it there: PYTHON env_server.py ENV --socket PATH (docs/evaluation.md)"
Observation = dict[str, NDArray[Any]]


class ServedEnv(gymnasium.Env[Observation, NDArray[Any]]):
    """An environment behind a socket; observations come flattened.

    Args:
        place: path of a Unix socket, or `127.0.0.1:PORT`.
        timeout_s: for the answer to a request.

    Attributes:
        rate_hz, max_steps: of the environment; 0 and None: it says nothing.

    Raises:
        EnvError: nobody answers there, or not as a server of this protocol.
    """

    def __init__(self, place: str, timeout_s: float = 60.0) -> None:
        if not isinstance(timeout_s, (int, float)) or not 0 < timeout_s < math.inf:
            raise EnvError(f"environment served:{place}: timeout_s: expected seconds above 0")
        self._place, self._timeout_s, self._steps = place, float(timeout_s), 0
        self._peer = _connect(place)
        try:
            said, limits = self._ask("hello")
            self._take(said, limits)
        except BaseException:
            self._peer.close()
            raise

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        self._steps = 0
        said, observation = self._ask("reset", {"seed": int(seed or 0)})
        return self._seen(observation), self._info(said)

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        said, observation = self._ask("step", arrays={"action": action})
        try:
            reward = float(said["reward"])
            ends = [said["terminated"], said["truncated"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._fault(f"step {self._steps}: an answer without {error}") from None
        return self._seen(observation), reward, bool(ends[0]), bool(ends[1]), self._info(said)

    def render(self) -> Any:
        return self._ask("render")[1].get("picture")

    def close(self) -> None:
        self._peer.close()

    def _take(self, said: Mapping[str, Any], limits: Observation) -> None:
        if said.get("protocol") != PROTOCOL:
            raise self._fault(
                f"expected protocol {PROTOCOL}, got {said.get('protocol')!r}; take the "
                "env_server.py of this version"
            )
        try:
            low, high = limits["low"], limits["high"]
            self.action_space = gymnasium.spaces.Box(low, high, low.shape, low.dtype)
            rate_hz, steps = float(said["rate_hz"]), said["max_steps"]
            self.rate_hz, self.max_steps = rate_hz, None if steps is None else int(steps)
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise self._fault(
                f"a greeting that is none ({type(error).__name__}: {error})"
            ) from None
        mode = said.get("render_mode")
        self.render_mode = mode if isinstance(mode, str) else None

    def _ask(
        self,
        what: str,
        more: Mapping[str, Any] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> tuple[dict[str, Any], Observation]:
        at = f"{what} {self._steps}" if what == "step" else what
        try:
            self._peer.settimeout(self._timeout_s)
            send(self._peer, {"do": what, **(more or {})}, arrays or {})
            said, given = receive(self._peer, LONGEST, self._timeout_s)
        except TimeoutError:
            raise self._fault(
                f"{at}: no answer within {self._timeout_s:g} s; raise it by ?timeout_s=…, or see "
                "what the server does"
            ) from None
        except (EOFError, OSError) as error:
            why = f" ({error})" if str(error) else ""
            raise self._fault(
                f"{at}: the server has gone{why}; see what it printed, and start it again"
            ) from None
        except FrameError as error:
            raise self._fault(f"{at}: {error}; take the env_server.py of this version") from None
        if "error" in said:
            raise self._fault(f"{at}: the environment failed: {said['error']}")
        return said, given

    def _seen(self, observation: Observation) -> Observation:
        if not observation:
            raise self._fault("an observation without numbers")
        return observation

    def _info(self, said: Mapping[str, Any]) -> dict[str, Any]:
        info = said.get("info")
        if not isinstance(info, dict):
            raise self._fault(f"info: expected an object, got {type(info).__name__}")
        return info

    def _fault(self, what: str) -> EnvError:
        with contextlib.suppress(OSError):
            self._peer.close()  # what would come next on it is not known
        return EnvError(f"environment served:{self._place}: {what}")


def _connect(place: str) -> socket.socket:
    host, colon, port = place.rpartition(":")
    if not place:
        raise EnvError("environment served: expected served:PATH or served:127.0.0.1:PORT")
    if colon and host and "/" not in place:
        if host not in _LOCAL or not port.isdigit() or not 0 < int(port) < 65536:
            raise EnvError(
                f"environment served:{place}: expected a port of {_LOCAL[0]}: servers of other "
                "machines are not asked"
            )
        family, address = socket.AF_INET, (_LOCAL[0], int(port))
    else:
        family, address = socket.AF_UNIX, place  # type: ignore[assignment]
    peer = socket.socket(family, socket.SOCK_STREAM)
    peer.settimeout(_CONNECT_S)
    try:
        peer.connect(address)
    except (OSError, ValueError) as error:
        peer.close()
        raise EnvError(f"environment served:{place}: no server there ({error}); {_START}") from None
    return peer
