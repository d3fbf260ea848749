"""A real Chromium before the console, and a network between them that can be cut."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOKEN = "a-token-of-the-bench"
BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
START_S = 90.0
PR_SET_PDEATHSIG = 1


class BrowserError(RuntimeError):
    """No browser, or none that answers; the message says what to install."""


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody does, on that port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def wait_for_port(port: int) -> None:
    """Wait until somebody listens there; raises BrowserError where nobody does in time."""
    end_s = time.monotonic() + START_S
    while not listens(port):
        if time.monotonic() > end_s:
            raise BrowserError(f"no console on port {port} within {START_S:g} s")
        time.sleep(0.05)


@contextlib.contextmanager
def console_parameters(port: int) -> Iterator[Path]:
    """A parameter file that gives the console its port and token."""
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder) / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        file = Path(folder) / "params.yaml"
        file.write_text(f"console:\n  ros__parameters: {{port: {port}, token_file: {token}}}\n")
        yield file


def _die_with_parent() -> None:
    """However the bench ends, no browser goes on working without it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Chromium:
    """A browser process of its own, so that it can be killed as one.

    Attributes:
        page: Playwright's, of the console, logged in and in control.
    """

    def __init__(self, playwright: Any, url: str, size: tuple[int, int] = (1280, 900)) -> None:
        binary = next(filter(None, map(shutil.which, BINARIES)), None)
        if binary is None:
            raise BrowserError(f"expected one of {', '.join(BINARIES)}: apt-get install chromium")
        self._home = tempfile.mkdtemp()
        self._process = subprocess.Popen(
            [binary, *ARGUMENTS, f"--user-data-dir={self._home}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            self._open(playwright, url, size)
        except BaseException:
            self.kill()
            shutil.rmtree(self._home, ignore_errors=True)
            raise

    def _open(self, playwright: Any, url: str, size: tuple[int, int]) -> None:
        self._browser = playwright.chromium.connect_over_cdp(self._endpoint())
        self._context = self._browser.contexts[0]
        self.page = self._context.pages[0]
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self._fingers: Any = None  # a touch ends in the session in which it began
        self.dialogs: list[str] = []
        self.page.on(
            "dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss())
        )
        self.page.goto(f"{url}/#token={TOKEN}")
        self.page.wait_for_selector("body:not(.lost)")

    def _endpoint(self) -> str:
        file, end_s = Path(self._home) / "DevToolsActivePort", time.monotonic() + START_S
        while not (file.exists() and len(lines := file.read_text().splitlines()) > 1):
            if time.monotonic() > end_s or self._process.poll() is not None:
                raise BrowserError("chromium does not start")
            time.sleep(0.05)
        return f"http://127.0.0.1:{lines[0]}"

    def lead(self) -> None:
        """Take control."""
        if "you lead" not in self.page.inner_text("#leader"):
            self.page.click("#control")
        self.page.wait_for_selector("#leader:has-text('you lead')")

    def jog_on(self) -> None:
        """Switch the jog on."""
        if "off" not in self.page.inner_text("#jog-switch"):
            self.page.click("#jog-switch")
        self.page.wait_for_selector("#jog-switch:has-text('off')")

    def touch(self, selector: str | None) -> None:
        """Put a finger on an element and leave it there, or lift it (None)."""
        points = []
        if selector is not None:
            self.page.locator(selector).scroll_into_view_if_needed()
            box = self.page.locator(selector).bounding_box()
            points = [{"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}]
        if self._fingers is None:
            self._fingers = self._context.new_cdp_session(self.page)
        session = self._fingers
        session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
        kind = "touchStart" if points else "touchEnd"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def gamepad(self, axes: list[float] | None, deadman: bool) -> None:
        """A gamepad of the standard layout as the page's Gamepad API gives it; None: unplugged.

        Chromium has no way to plug in a device; all from that API on is the page's own.
        """
        self.page.evaluate(
            """([axes, deadman]) => {
                const buttons = Array.from({ length: 17 }, (_, k) =>
                    ({ pressed: k === 5 && deadman, value: 0, touched: false }));
                const pad = { connected: true, mapping: "standard", axes, buttons };
                navigator.getGamepads = () => axes ? [null, pad] : [null];
            }""",
            [axes, deadman],
        )

    def other_tab(self) -> Any:
        """Put another page before this one, as a person does; real focus, not an emulated one."""
        self._context.new_cdp_session(self.page).send(
            "Emulation.setFocusEmulationEnabled", {"enabled": False}
        )
        other = self._context.new_page()
        other.bring_to_front()
        return other

    def kill(self) -> None:
        """As a crash, or a battery that is empty: nothing of it says farewell."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(Exception):
            self._browser.close()
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)


class Wire:
    """A TCP connection between browser and console that can be cut without a word.

    Attributes:
        port: that the browser uses.
        cut: nothing passes, and nobody is told.

    Args:
        target: the console's port.
    """

    def __init__(self, target: int) -> None:
        self.cut, self.port = False, 0
        self._target, self._loop = target, asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(START_S)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            self._pump(reader, other[1]), self._pump(other[0], writer), return_exceptions=True
        )

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                while self.cut:
                    await asyncio.sleep(0.005)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)


def playwright_is_installed() -> bool:
    """Whether Playwright is there; if not, it says so."""
    import importlib.util

    if importlib.util.find_spec("playwright") is not None:
        return True
    print("  left out: playwright is not installed (make suites)", file=sys.stderr)
    return False
