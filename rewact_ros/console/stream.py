"""What a page is told as it happens, states and pictures, and what it says back.

That is who it is, which pictures it has shown, and what its keys hold.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from rewact_ros.console.buttons import BUTTONS
from rewact_ros.console.jog import BrowserJog
from rewact_ros.console.pictures import Pictures, as_jpeg
from rewact_ros.console.requests import finite
from rewact_ros.console.robot import Robot
from rewact_ros.console.sessions import Session, Sessions
from rewact_ros.contract import SampleError

# A status is this old at most when it leaves; pictures come as fast as the page takes them.
STATE_S, PICTURE_S = 0.1, 0.02
# Pages that are told at the same time share one look at the robot.
SHARED_S = 0.05
MESSAGE_BYTES, MOST_PAGES, HEARTBEAT_S = 4 << 10, 20, 2.0


@dataclass(eq=False)
class Looking:
    """What one page was sent so far."""

    session: Session | None = None
    point: int = 0
    told: int = 0
    pictures: dict[str, int] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)  # pictures that the page has not shown yet
    wanted: bool = True  # a hidden page takes no pictures


class Stream:
    """Tells the pages of one robot; all of it runs in one event loop.

    Args:
        robot, pictures, sessions, jog: as `Console`.
        on_fault: told of an error of our own, which ends the page's stream: it connects anew.
    """

    def __init__(
        self,
        robot: Robot,
        pictures: Pictures,
        sessions: Sessions,
        jog: BrowserJog | None,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._on_fault = on_fault
        self._robot, self._pictures, self._sessions, self._jog = robot, pictures, sessions, jog
        self._pages: set[Looking] = set()
        self._encoder = ThreadPoolExecutor(1, "jpeg")
        self._seen: tuple[float, dict[str, Any]] = (-SHARED_S, {})

    def __len__(self) -> int:
        return len(self._pages)

    def close(self) -> None:
        """Free the encoder's thread."""
        self._encoder.shutdown(wait=False, cancel_futures=True)

    def _snapshot(self) -> dict[str, Any]:
        now_s = time.monotonic()
        if now_s - self._seen[0] >= SHARED_S:
            self._seen = now_s, self._robot.snapshot()
        return self._seen[1]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Tell one page until it is gone.

        Raises:
            web.HTTPServiceUnavailable: too many look already.
        """
        if len(self._pages) >= MOST_PAGES:
            raise web.HTTPServiceUnavailable(text=f"{MOST_PAGES} pages look already; close one")
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES, compress=False
        )
        await socket.prepare(request)
        looking = Looking()
        self._pages.add(looking)
        self._pictures.look(1)
        tellers = [
            asyncio.create_task(self._watched(tell(socket, looking), socket))
            for tell in (self._tell_states, self._tell_pictures)
        ]
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._hear(looking, message.data)
        finally:
            if self._jog is not None and looking.session is not None:
                self._jog.leave(looking.session)
            for teller in tellers:
                teller.cancel()
            await asyncio.gather(*tellers, return_exceptions=True)
            self._pages.discard(looking)
            self._pictures.look(-1)
        return socket

    async def _watched(self, telling: Awaitable[None], socket: web.WebSocketResponse) -> None:
        """A page that is told nothing more must not wait for it."""
        try:
            await telling
        except ConnectionError:
            pass  # it is gone
        except Exception as error:
            self._on_fault(error)
        await socket.close()

    def _hear(self, looking: Looking, data: str) -> None:
        """One message of a page; one that is not understood changes nothing."""
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(message, dict):
            return
        if isinstance(secret := message.get("session"), str):
            looking.session = self._sessions.find(secret)
        if isinstance(shown := message.get("shown"), str):
            looking.awaited.discard(shown)
        if isinstance(hidden := message.get("hidden"), bool):
            looking.wanted = not hidden
            if hidden and looking.session is not None and self._jog is not None:
                self._jog.let_go(looking.session)
        jog = message.get("jog")
        session = looking.session
        if isinstance(jog, dict) and self._jog is not None and session is not None:
            self._jog.take(session, jog)  # which follows the page that switched it on, no other

    async def _tell_states(self, socket: web.WebSocketResponse, looking: Looking) -> None:
        cameras = [camera.name for camera in self._pictures.cameras]
        await socket.send_json({"cameras": cameras, "buttons": _labels()})
        while not socket.closed:
            state = dict(self._snapshot())
            looking.point, points, looking.told, events = self._robot.since(
                looking.point, looking.told
            )
            leader = self._sessions.leader
            state |= {
                "points": points,
                "events": events,
                "you": {
                    "name": looking.session.name if looking.session else "",
                    "leads": self._sessions.leads(looking.session),
                },
                "leader": leader.name if leader else "",
                "pages": len(self._pages),
                "jog": self._jog.state() if self._jog else None,
            }
            await socket.send_str(json.dumps(finite(state), separators=(",", ":")))
            await asyncio.sleep(STATE_S)

    async def _tell_pictures(self, socket: web.WebSocketResponse, looking: Looking) -> None:
        """Each camera's newest picture, once the page has shown the one before."""
        loop, trouble = asyncio.get_running_loop(), dict[str, str]()
        while not socket.closed:
            for index, camera in enumerate(self._pictures.cameras):
                number, message = self._pictures.newest(camera)
                seen = looking.pictures.get(camera.name, 0)
                if number == seen or camera.name in looking.awaited or not looking.wanted:
                    continue
                looking.pictures[camera.name] = number
                try:
                    jpeg = await loop.run_in_executor(self._encoder, as_jpeg, camera, message)
                except SampleError as error:
                    if trouble.get(camera.name) != str(error):
                        trouble[camera.name] = str(error)
                        await socket.send_json({"camera": camera.name, "trouble": str(error)})
                    continue
                trouble.pop(camera.name, None)
                looking.awaited.add(camera.name)
                await socket.send_bytes(bytes([index]) + jpeg)
            await asyncio.sleep(PICTURE_S)


def _labels() -> list[dict[str, str]]:
    return [{"name": button.name, "label": button.label} for button in BUTTONS]
