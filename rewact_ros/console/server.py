"""The console's web server: a page, one stream of states and pictures, and calls with a token.

Everything that changes something is a POST with the session's secret in a header, and of a session
that leads. The stream only tells, but for a browser's jog, which is a teleop source (`jog.py`).
"""

import asyncio
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from rewact_ros.console.buttons import BUTTONS
from rewact_ros.console.guard import Guard
from rewact_ros.console.learn import Learning
from rewact_ros.console.pictures import Pictures, as_jpeg
from rewact_ros.console.robot import ANSWER_S, RefusedError, Robot
from rewact_ros.console.sessions import NotAllowedError, Session, Sessions
from rewact_ros.contract import SampleError
from rewact_ros.ros.swap_client import SwapError, update_for
from rewact_ros.text import printable, reason

PAGE = Path(__file__).with_name("page")
# A status is this old at most when it leaves; pictures come as fast as the page takes them.
STATE_S, PICTURE_S = 0.1, 0.05
BODY_BYTES, MESSAGE_BYTES, MOST_PAGES = 64 << 10, 4 << 10, 20
BEARER = "Bearer "
_BUTTONS = {button.name: button for button in BUTTONS}


@dataclass(eq=False)
class Looking:
    """What one page was sent so far."""

    session: Session | None = None
    point: int = 0
    told: int = 0
    pictures: dict[str, int] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)  # pictures that the page has not shown yet
    wanted: bool = True  # a hidden page takes no pictures
    closed: bool = False


class JogDoor(Protocol):
    """What takes a browser's jog."""

    def take(self, session: Session, message: dict[str, Any]) -> None:
        """One message of the page that leads."""

    def let_go(self, session: Session) -> None:
        """The page is hidden."""

    def leave(self, session: Session) -> None:
        """The page leads no more, or is gone: the jog is switched off."""

    def switch(self, session: Session, on: bool) -> "Future[str]":
        """Switch it on or off; as `Robot.ask`."""

    def state(self) -> dict[str, Any]:
        """What the page shows of it."""


class Console:
    """Serves one robot; all of it runs in one event loop.

    Args:
        robot: that it shows.
        pictures: of its cameras.
        learning: the run and the versions that it shows.
        sessions: who may do what.
        guard: which requests are let in.
        jog: takes what a browser's keys ask for; None: this console has no jog.
    """

    def __init__(
        self,
        robot: Robot,
        pictures: Pictures,
        learning: Learning,
        sessions: Sessions,
        guard: Guard,
        jog: JogDoor | None = None,
    ) -> None:
        self._robot, self._pictures, self._sessions = robot, pictures, sessions
        self._learning = learning
        self._guard, self._jog = guard, jog
        self._pages: set[Looking] = set()
        self._encoder = ThreadPoolExecutor(1, "jpeg")

    def app(self, *more: Callable[[web.Application, "Console"], None]) -> web.Application:
        """The application; `more` add routes to it."""
        app = web.Application(middlewares=[self._guard.check], client_max_size=BODY_BYTES)
        app.router.add_get("/", self._page)
        app.router.add_get("/page/{name:[a-z_]+\\.(?:js|css|svg)}", self._file)
        app.router.add_get("/stream", self._stream)
        app.router.add_post("/api/login", self._log_in)
        app.router.add_post("/api/logout", self._log_out)
        app.router.add_post("/api/control", self._control)
        app.router.add_post("/api/press/{button:[a-z_]+}", self._press)
        app.router.add_post("/api/task", self._task)
        app.router.add_post("/api/cancel", self._cancel)
        app.router.add_get("/api/learn", self._learn)
        app.router.add_get("/api/learn/curve", self._curve)
        app.router.add_post("/api/version", self._adopt)
        app.router.add_post("/api/jog", self._switch_jog)
        for add in more:
            add(app, self)
        return app

    # Files ------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / "index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = PAGE / request.match_info["name"]
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    # Who it is --------------------------------------------------------------------------------

    def session(self, request: web.Request) -> Session | None:
        """Of the secret in a request's header."""
        given = request.headers.get("Authorization", "")
        return self._sessions.find(given.removeprefix(BEARER)) if given.startswith(BEARER) else None

    def leader(self, request: web.Request) -> Session:
        """The session of a request, which leads.

        Raises:
            web.HTTPForbidden: it does not; the body says why.
        """
        try:
            return self._sessions.require_lead(self.session(request))
        except NotAllowedError as error:
            raise forbidden(error) from error

    def member(self, request: web.Request) -> Session:
        """The session of a request, leading or not.

        Raises:
            web.HTTPForbidden: it has none.
        """
        session = self.session(request)
        if session is None:
            raise forbidden(NotAllowedError("read-only: log in with the console's token first"))
        return session

    async def _log_in(self, request: web.Request) -> web.Response:
        given = await body(request)
        try:
            session = self._sessions.log_in(text(given, "token"), text(given, "name"))
        except NotAllowedError as error:
            raise forbidden(error) from error
        return web.json_response({"session": session.secret, "name": session.name})

    async def _log_out(self, request: web.Request) -> web.Response:
        session = self.member(request)
        self._leave(session)
        self._sessions.log_out(session.secret)
        return web.json_response({"message": "logged out"})

    async def _control(self, request: web.Request) -> web.Response:
        session, given = self.member(request), await body(request)
        before = self._sessions.leader
        if given.get("take") is not True:
            self._leave(session)
            self._sessions.leave(session)
            return web.json_response({"message": "nobody leads now"})
        try:
            self._sessions.take(session, given.get("force") is True)
        except NotAllowedError as error:
            raise forbidden(error) from error
        if before is not None and before is not session:
            self._leave(before)
        return web.json_response({"message": "you have control"})

    def _leave(self, session: Session | None) -> None:
        if self._jog is not None and session is not None:
            self._jog.leave(session)

    async def _switch_jog(self, request: web.Request) -> web.Response:
        session, given = self.leader(request), await body(request)
        if self._jog is None:
            raise bad("this console has no jog: its contract or jog_source has none")
        return await answered(self._jog.switch(session, given.get("on") is True))

    # What it asks for -------------------------------------------------------------------------

    async def _press(self, request: web.Request) -> web.Response:
        button = _BUTTONS.get(request.match_info["button"])
        if button is None:
            raise web.HTTPNotFound
        # Who has the token may stop the arm, whoever leads.
        (self.member if button.name == "disarm" else self.leader)(request)
        return await answered(self._robot.ask(button))

    async def _task(self, request: web.Request) -> web.Response:
        self.leader(request)
        given = await body(request)
        what, episodes = text(given, "text"), given.get("episodes", 1)
        limit_s = given.get("timeout", 0)
        if not what:
            raise bad("text: expected what to do, in words, got nothing")
        if not isinstance(episodes, int) or isinstance(episodes, bool) or not 1 <= episodes <= 1000:
            raise bad(f"episodes: expected a whole number from 1 to 1000, got {episodes!r}")
        if not isinstance(limit_s, int | float) or not 0 <= limit_s <= 86400:
            raise bad(f"timeout: expected 0 (the supervisor's own) to 86400 s, got {limit_s!r}")
        return await answered(self._robot.start_task(what, float(limit_s), episodes))

    async def _cancel(self, request: web.Request) -> web.Response:
        self.leader(request)
        return await answered(self._robot.cancel_task())

    async def _adopt(self, request: web.Request) -> web.Response:
        """Let the policy become a version of the listing, or the one before."""
        self.leader(request)
        given = await body(request)
        try:
            if given.get("rollback") is True:
                update = update_for(None, time.time_ns())
            else:
                name = text(given, "name")
                update = await asyncio.to_thread(self._learning.update, name)
        except SwapError as error:
            return web.json_response({"error": str(error)}, status=409)
        future = asyncio.wrap_future(self._robot.swap(update))
        try:
            said = await asyncio.wait_for(asyncio.shield(future), ANSWER_S)
        except RefusedError as error:
            return web.json_response({"error": str(error)}, status=409)
        except TimeoutError:
            future.add_done_callback(lambda done: done.exception())  # told as an event
            said = "asked for; it is taken at the end of the episode, and told below Events"
        return web.json_response({"message": said})

    # What is learned --------------------------------------------------------------------------

    async def _learn(self, request: web.Request) -> web.Response:
        return web.json_response(_finite(await asyncio.to_thread(self._learning.record)))

    async def _curve(self, request: web.Request) -> web.Response:
        curves = await asyncio.to_thread(self._learning.curves)
        points = curves.get(request.query.get("name", ""))
        if points is None:
            raise web.HTTPNotFound
        return web.json_response({"points": points})

    # What it is told --------------------------------------------------------------------------

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if len(self._pages) >= MOST_PAGES:
            raise web.HTTPServiceUnavailable(text=f"{MOST_PAGES} pages look already; close one")
        socket = web.WebSocketResponse(heartbeat=2.0, max_msg_size=MESSAGE_BYTES, compress=False)
        await socket.prepare(request)
        looking = Looking()
        self._pages.add(looking)
        self._pictures.look(1)
        tellers = [
            asyncio.create_task(self._tell_states(socket, looking)),
            asyncio.create_task(self._tell_pictures(socket, looking)),
        ]
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._hear(looking, message.data)
        finally:
            looking.closed = True
            self._leave(looking.session)
            for teller in tellers:
                teller.cancel()
            await asyncio.gather(*tellers, return_exceptions=True)
            self._pages.discard(looking)
            self._pictures.look(-1)
        return socket

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
            state = self._robot.snapshot()
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
            await socket.send_str(json.dumps(_finite(state), separators=(",", ":")))
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

    def line(self) -> str:
        """Who looks and who leads, in one line."""
        leader = self._sessions.leader
        return f"{len(self._pages)} pages; {leader.name if leader else 'nobody'} leads"

    def close(self) -> None:
        """Free the encoder's thread."""
        self._encoder.shutdown(wait=False, cancel_futures=True)


def _labels() -> list[dict[str, str]]:
    return [{"name": button.name, "label": button.label} for button in BUTTONS]


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


# Requests and answers -------------------------------------------------------------------------


def forbidden(error: Exception) -> web.HTTPForbidden:
    """403 with the reason."""
    return web.HTTPForbidden(
        text=json.dumps({"error": str(error)}), content_type="application/json"
    )


def bad(why: str) -> web.HTTPBadRequest:
    """400 with the reason."""
    return web.HTTPBadRequest(text=json.dumps({"error": why}), content_type="application/json")


async def body(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request; nothing is an empty one.

    Raises:
        web.HTTPBadRequest: it is something else.
    """
    if not request.can_read_body:
        return {}
    if request.content_type != "application/json":
        raise bad(f"expected application/json, got {printable(request.content_type, 60)}")
    try:
        given = json.loads(await request.text())
    except (ValueError, RecursionError) as error:
        raise bad(f"expected a JSON object: {reason(error)}") from error
    if not isinstance(given, dict):
        raise bad("expected a JSON object")
    return given


def text(given: dict[str, Any], key: str) -> str:
    """A text of a body, without spaces around it; "" where it is left out.

    Raises:
        web.HTTPBadRequest: it is no text, or not a printable one.
    """
    value = given.get(key, "")
    if not isinstance(value, str) or not value.isprintable():
        raise bad(f"{key}: expected printable text of one line, got {printable(repr(value), 60)}")
    return value.strip()


async def answered(future: "Future[str]") -> web.Response:
    """What the robot says, or why not (409), or that nobody answers (504)."""
    try:
        said = await asyncio.wait_for(asyncio.wrap_future(future), ANSWER_S)
    except RefusedError as error:
        return web.json_response({"error": str(error)}, status=409)
    except TimeoutError:
        why = (
            f"no answer within {ANSWER_S:g} s; it may have been done all the same: look at the mode"
        )
        return web.json_response({"error": why}, status=504)
    return web.json_response({"message": said})
