"""What every request to the console must pass before anything looks at it.

The page is served to a browser that other pages live in as well. A request must name this console
(else a name of somebody else's was pointed at it), must not come from another page, and the page
runs nothing but its own files.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HEADERS = {
    # Nothing from elsewhere, no inline script or style, and no frame around it: a text of the graph
    # that got into the page unescaped would still not run.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Which names and origins are the console's own.

    Args:
        host: that it listens on; on a wildcard every address of digits is its own.
        names: further names under which it is reached.
        on_fault: told of an error of our own, in the server's thread; the page hears that there
            was one.
    """

    def __init__(
        self,
        host: str,
        names: tuple[str, ...] = (),
        on_fault: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.on_fault = on_fault
        self._names = {*LOOPBACK, host, socket.gethostname(), *names}
        self._wildcard = host in ("0.0.0.0", "::")

    def is_own(self, host: str) -> bool:
        """Whether a `Host` header, with or without a port, names this console."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name.lower() in self._names or (self._wildcard and _is_address(name))

    def comes_from_itself(self, request: web.Request) -> bool:
        """Whether the page that sends a request is the console's; programs say no origin."""
        origin = request.headers.get("Origin")
        if origin is None:
            return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc == request.host

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request in, or refuse it with 403; every answer gets the headers."""
        why = self._why_not(request)
        if not why:
            return await self._handled(request, handler)
        response = web.json_response({"error": why}, status=403)
        response.headers.update(HEADERS)
        return response

    def _why_not(self, request: web.Request) -> str:
        if not self.is_own(request.host):
            return f"this console is not {request.host[:80]!r}; see the parameter names"
        changes = request.headers.get("Upgrade") or request.method not in ("GET", "HEAD")
        if changes and not self.comes_from_itself(request):
            return "a page of another origin may not ask this console for anything"
        return ""

    async def _handled(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        except Exception as error:
            self.on_fault(error)
            response = web.json_response({"error": "an error of the console's own"}, status=500)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
