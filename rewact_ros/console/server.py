"""The console's web server: a page, one stream of states and pictures, and calls with a token.

Everything that changes something is a POST with the session's secret in a header, and of a session
that leads. The stream only tells, but for a browser's jog, which is a teleop source (`jog.py`).
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from rewact_ros.console.buttons import BUTTONS
from rewact_ros.console.guard import Guard
from rewact_ros.console.jog import BrowserJog
from rewact_ros.console.learn import Learning
from rewact_ros.console.pictures import Pictures
from rewact_ros.console.requests import answered, bad, body, finite, forbidden, text
from rewact_ros.console.robot import ANSWER_S, RefusedError, Robot
from rewact_ros.console.sessions import NotAllowedError, Session, Sessions
from rewact_ros.console.stream import Stream
from rewact_ros.ros.swap_client import SwapError, update_for

PAGE = Path(__file__).with_name("page")
BODY_BYTES = 64 << 10
BEARER = "Bearer "
_BUTTONS = {button.name: button for button in BUTTONS}


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
        jog: BrowserJog | None = None,
    ) -> None:
        self._robot, self._learning, self._sessions = robot, learning, sessions
        self._guard, self._jog = guard, jog
        self._stream = Stream(robot, pictures, sessions, jog, guard.on_fault)

    def app(self, *more: Callable[[web.Application, "Console"], None]) -> web.Application:
        """The application; `more` add routes to it."""
        app = web.Application(middlewares=[self._guard.check], client_max_size=BODY_BYTES)
        app.router.add_get("/", self._page)
        app.router.add_get("/page/{name:[a-z_]+\\.(?:js|css|svg)}", self._file)
        app.router.add_get("/stream", self._stream.serve)
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
        return web.json_response(finite(await asyncio.to_thread(self._learning.record)))

    async def _curve(self, request: web.Request) -> web.Response:
        curves = await asyncio.to_thread(self._learning.curves)
        points = curves.get(request.query.get("name", ""))
        if points is None:
            raise web.HTTPNotFound
        return web.json_response({"points": points})

    def line(self) -> str:
        """Who looks and who leads, in one line."""
        leader = self._sessions.leader
        return f"{len(self._stream)} pages; {leader.name if leader else 'nobody'} leads"

    def close(self) -> None:
        """Free what it holds."""
        self._stream.close()
