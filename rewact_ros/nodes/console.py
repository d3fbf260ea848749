"""Node `console`: one robot's page in a browser (docs/console.md)."""

import asyncio
import os
import secrets
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from rclpy.node import Node

from rewact_ros.console.guard import Guard
from rewact_ros.console.jog import BrowserJog
from rewact_ros.console.learn import Learning
from rewact_ros.console.pictures import Pictures
from rewact_ros.console.review import add_review
from rewact_ros.console.robot import Robot
from rewact_ros.console.server import Console
from rewact_ros.console.sessions import Sessions
from rewact_ros.contract import Contract, load_contract
from rewact_ros.ros.diagnostics import OK, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.params import ConsoleParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.text import reason

START_S = 5.0
SHORTEST_TOKEN = 12


class ConsoleError(ValueError):
    """The console cannot start as it is configured; the message says why."""


class ConsoleNode(Guarded, Node):
    """Hears the robot; the web server runs beside, in a thread of its own.

    Raises:
        ConsoleError: its port is taken, or its token is none.
        ContractError: the contract is wrong.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("console", **node_arguments)
        self.params = p = declare(self, ConsoleParams)
        contract = load_contract(p.contract, self.get_namespace()) if p.contract else None
        token = read_token(Path(p.token_file)) if p.token_file else secrets.token_urlsafe(16)
        self.robot = Robot(self)
        cameras = contract.cameras if contract else ()
        pictures = Pictures(self, cameras, self.robot.later)
        names = tuple(filter(None, (name.strip() for name in p.names.split(","))))
        guard = Guard(
            p.host,
            names,
            lambda error: self.robot.later(lambda: self.internal_fault("web server", error)),
        )
        self._jog = self._make_jog(contract) if contract and p.jog_source else None
        learning = Learning(_folder(p.run), _folder(p.policy_dir))
        sessions = Sessions(token)
        self.console = Console(self.robot, pictures, learning, sessions, guard, self._jog)
        review = add_review(_folder(p.bags_dir), _folder(p.datasets))
        self._server = WebServer(self.console, p.host, p.port, review)
        self.port = self._server.port
        shown = "localhost" if p.host in ("0.0.0.0", "::", "127.0.0.1") else p.host
        # To the terminal only: a log goes to /rosout, which everybody in the graph reads.
        key = "" if p.token_file else f"#token={token}"
        print(f"console: http://{shown}:{self.port}/{key}", flush=True)
        publish_diagnostics(self, self._diagnose)

    def _make_jog(self, contract: Contract) -> BrowserJog | None:
        """Of the source that is named; a contract that has none of the usual name has no jog."""
        name = self.params.jog_source
        if name == ConsoleParams.jog_source and name not in {s.name for s in contract.teleop}:
            return None
        source = contract.teleop_source(name)
        if source.jog is None or source.deadman is None:
            raise ConsoleError(f"jog_source: teleop.{name}: expected a jog and a deadman")
        return BrowserJog(self, self.robot.later, contract, source, self.params.task)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        return OK, self.console.line(), {"port": self.port}

    def close(self) -> None:
        """End the server; pages see it within a second."""
        self._server.close()
        if self._jog is not None:
            self._jog.close()


class WebServer:
    """An application in an event loop and a thread of its own, until `close`.

    Args:
        console: whose application it is.
        host, port: that it listens on.
        more: as `Console.app` takes them.
    """

    def __init__(
        self,
        console: Console,
        host: str,
        port: int,
        *more: Callable[[web.Application, Console], None],
    ) -> None:
        self._console, self._loop, self._more = console, asyncio.new_event_loop(), more
        self._failure: Exception | None = None
        self.port = port
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(host, port, ready), name="web", daemon=True
        )
        self._thread.start()
        if not ready.wait(START_S) or self._failure is not None:
            why = reason(self._failure) if self._failure else "no answer"
            raise ConsoleError(f"console: {host}:{port}: {why}; choose another host or port")

    def _run(self, host: str, port: int, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(
            self._console.app(*self._more), access_log=None, shutdown_timeout=1.0
        )
        try:
            self._loop.run_until_complete(runner.setup())
            site = web.TCPSite(runner, host, port)
            self._loop.run_until_complete(site.start())
            self.port = runner.addresses[0][1]
        except OSError as error:
            self._failure = error
            ready.set()
            return
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._console.close()

    def close(self) -> None:
        """Stop serving."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)


def _folder(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def read_token(path: Path) -> str:
    """The token of a file that nobody else may read.

    Raises:
        ConsoleError: it cannot be read, others may read it, or it holds no token.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConsoleError(f"token_file: {reason(error)}") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConsoleError(
            f"token_file: {path}: others may use it (mode {stat.S_IMODE(mode):o}); chmod 600 it"
        )
    token = text.strip()
    if len(token) < SHORTEST_TOKEN or not token.isprintable() or " " in token:
        raise ConsoleError(
            f"token_file: {path}: expected one line of {SHORTEST_TOKEN} characters or more, such "
            "as of `openssl rand -hex 16`"
        )
    return token


def main() -> None:
    """Entry point."""
    run_node(ConsoleNode, (ValueError, RuntimeError))


if __name__ == "__main__":
    main()
