"""The Rerun viewer of somebody who watches a robot that runs."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

from rewact_ros.data.video.rerun_file import RerunLog
from rewact_ros.text import reason

SCHEMES = ("rerun+http", "rerun+https", "rerun")
PORT = 9876  # on which the viewer listens
CONNECT_S, FAREWELL_S = 3.0, 3.0


def is_address(text: str) -> bool:
    """Whether it names a viewer rather than a file."""
    return "://" in text


class RerunViewer(RerunLog):
    """Sends to a viewer that listens; what it has not taken after some seconds is lost.

    Args:
        address: such as `rerun+http://127.0.0.1:9876/proxy`.
        title, cameras: as of `RerunLog`.

    Raises:
        RerunMissingError: at `__init__`.
        ValueError: at `__init__`, no address of a viewer, or nobody listens there.
    """

    def __init__(self, address: str, title: str, cameras: Sequence[str]) -> None:
        super().__init__(title, cameras, live=True)
        self.address = address
        try:
            parts = urlsplit(address)
            host, port = parts.hostname or "", parts.port or PORT
        except ValueError as error:
            raise ValueError(f"--rerun {address!r}: {reason(error)}") from error
        if parts.scheme not in SCHEMES or not host or parts.path != "/proxy":
            raise ValueError(
                f"--rerun {address!r}: expected the address of a viewer such as "
                f"rerun+http://127.0.0.1:{PORT}/proxy"
            )
        try:
            socket.create_connection((host, port), CONNECT_S).close()
        except OSError as error:
            raise ValueError(
                f"--rerun {address}: no viewer listens there ({reason(error)}); start one: rerun"
            ) from error

    def _open(self, stack: ExitStack) -> None:
        stack.callback(self._end)
        self._out.connect_grpc(self.address, default_blueprint=self._blueprint())

    def _end(self) -> None:
        """A viewer that has gone takes nothing more: wait for it no longer than this."""
        try:
            self._out.flush(timeout_sec=FAREWELL_S)
        except RuntimeError:
            return
        self._out.disconnect()
