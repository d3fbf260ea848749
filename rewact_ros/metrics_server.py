"""A small HTTP server that answers `GET /metrics`, and nothing that a stranger could tie up.

Each connection carries one request and has a deadline for all of it, so that a client that sends a
byte now and then is cut off. Where too many are open the oldest goes, so that a scraper always
gets in.
"""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from rewact_ros.exposition import CONTENT_TYPE

PATH = "/metrics"
DEADLINE_S = 5.0
MOST_CONNECTIONS = 8
POLL_S = 1.0  # how often deadlines are looked at


class MetricsServer(socketserver.ThreadingTCPServer):
    """Serves a text, from threads of its own.

    Args:
        host, port: to listen at; port 0 is any that is free.
        read: the text; called by the thread of a request.

    Attributes:
        cut_off: connections that took too long, or made room for newer ones.

    Raises:
        OSError: the address cannot be had.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, host: str, port: int, read: Callable[[], str]) -> None:
        self.read = read
        self.cut_off = 0
        self._opened_s: dict[socket.socket, float] = {}  # the oldest first
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(POLL_S,), name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The one that it listens at."""
        return int(self.server_address[1])

    def close(self) -> None:
        """Listen no more."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; at most so many at a time."""
        with self._lock:
            while len(self._opened_s) >= MOST_CONNECTIONS:
                self._cut(next(iter(self._opened_s)))
            self._opened_s[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        with self._lock:
            self._opened_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off what takes too long; called between two connections, and every POLL_S."""
        latest_s = time.monotonic() - DEADLINE_S
        with self._lock:
            for request in [r for r, opened_s in self._opened_s.items() if opened_s < latest_s]:
                self._cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error, and no line of the log."""

    def _cut(self, request: socket.socket) -> None:
        """Let whoever reads or writes this connection find it closed."""
        self._opened_s.pop(request, None)
        self.cut_off += 1
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One request; `http.server` bounds its line and headers, and refuses other methods."""

    server: MetricsServer
    server_version, sys_version = "rewact_ros", ""
    timeout = DEADLINE_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(404, explain=f"only {PATH} is here")
            return
        body = self.server.read().encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """A request is no line of the log: strangers would write it."""
