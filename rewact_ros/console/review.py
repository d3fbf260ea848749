"""Routes of the Review tab: reading is open like the rest of the page, changing needs the lead.

Whatever touches a file runs in a few threads that give way to the robot: the event loop goes on.
"""

import asyncio
import json
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from rewact_ros.console.requests import bad, body, refusal, text
from rewact_ros.console.server import Console
from rewact_ros.data.review.labeller import Labeller
from rewact_ros.data.review.library import Library
from rewact_ros.data.review.rows import ReviewError, UnknownEpisodeError
from rewact_ros.text import printable, reason

THREADS, NICENESS = 2, 10
# So many requests wait at most: whoever asks for more waits for nothing.
MOST_WAITING = 64
_DAY_S = 86_400.0
_EPISODE = "{episode:[0-9a-f]{16}}"


class Review:
    """Answers for one console.

    Args:
        bags_dir: folder of recordings; None: none.
        datasets: folder of datasets, or one; None: none.
    """

    def __init__(self, bags_dir: Path | None, datasets: Path | None) -> None:
        self._library = Library(bags_dir, datasets, _give_way, Labeller())
        self._threads = ThreadPoolExecutor(THREADS, "review", initializer=_give_way)
        self._waiting = 0

    def add(self, app: web.Application, console: Console) -> None:
        """Add the routes; as `Console.app` takes it."""
        self._console = console
        get, post = app.router.add_get, app.router.add_post
        get("/api/review/episodes", self._episodes)
        get(f"/api/review/episode/{_EPISODE}", self._episode)
        get(f"/api/review/picture/{_EPISODE}/{{camera:[0-9]{{1,2}}}}", self._picture)
        post(f"/api/review/judge/{_EPISODE}", self._judge)
        post(f"/api/review/take_back/{_EPISODE}", self._take_back)
        post(f"/api/review/annotate/{_EPISODE}", self._annotate)
        post(f"/api/review/mark/{_EPISODE}", self._mark)
        post(f"/api/review/unmark/{_EPISODE}", self._unmark)
        post(f"/api/review/scheme/{_EPISODE}", self._scheme)
        app.on_cleanup.append(self._close)

    async def _close(self, app: web.Application) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._library.close()

    # To look at ----------------------------------------------------------------------------------

    async def _episodes(self, request: web.Request) -> web.Response:
        if self._console.session(request) is not None:
            self._library.expect_changes()  # who has the token may soon judge
        query = request.query
        number, size = _whole(query.get("page", "0")), _whole(query.get("size", "50"))
        where = {key: query.get(key, "")[:200] for key in ("source", "outcome", "state", "text")}
        sort, down = query.get("sort", "name"), query.get("down", "1") == "1"

        def page() -> bytes:
            found = self._library.page(number, size, sort, down, where)
            return json.dumps(asdict(found), separators=(",", ":")).encode()

        return web.Response(body=await self._in_thread(page), content_type="application/json")

    async def _episode(self, request: web.Request) -> web.Response:
        episode = request.match_info["episode"]
        found = await self._in_thread(lambda: self._library.look(episode))
        return web.Response(body=found, content_type="application/json")

    async def _picture(self, request: web.Request) -> web.Response:
        episode, camera = request.match_info["episode"], int(request.match_info["camera"])
        at_s = _seconds(request.query.get("at", "0"))
        jpeg = await self._in_thread(lambda: self._library.picture(episode, camera, at_s))
        return web.Response(body=jpeg, content_type="image/jpeg")

    # To change -----------------------------------------------------------------------------------

    async def _judge(self, request: web.Request) -> web.Response:
        def judge(episode: str, given: dict[str, Any], by: str) -> str:
            at_s = given.get("at")
            if at_s is not None and not _is_moment(at_s):
                raise ReviewError(f"at: expected seconds of the episode, got {at_s!r:.40}")
            return self._library.judge(episode, text(given, "outcome"), by, at_s)

        return await self._changed(request, judge)

    async def _take_back(self, request: web.Request) -> web.Response:
        return await self._changed(
            request, lambda episode, given, by: self._library.take_back(episode, by)
        )

    async def _annotate(self, request: web.Request) -> web.Response:
        return await self._changed(
            request,
            lambda episode, given, by: self._library.annotate(
                episode, text(given, "tag"), text(given, "note")
            ),
        )

    async def _mark(self, request: web.Request) -> web.Response:
        return await self._changed(request, self._library.mark)

    async def _unmark(self, request: web.Request) -> web.Response:
        return await self._changed(
            request, lambda episode, given, by: self._library.unmark(episode)
        )

    async def _scheme(self, request: web.Request) -> web.Response:
        return await self._changed(
            request,
            lambda episode, given, by: self._library.scheme(
                episode, given.get("milestones", {}), given.get("subtasks", {})
            ),
        )

    async def _changed(
        self, request: web.Request, change: Callable[[str, dict[str, Any], str], str]
    ) -> web.Response:
        """Do what the page that leads asks for, in its person's name."""
        by = self._console.leader(request).name
        given, episode = await body(request), request.match_info["episode"]
        # The lead may have gone to another page while the body came.
        self._console.leader(request)
        said = await self._in_thread(lambda: change(episode, given, by))
        return web.json_response({"message": printable(said, 300)})

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        if self._waiting >= MOST_WAITING:
            why = "too much is asked for at once; try again"
            raise refusal(web.HTTPServiceUnavailable, why)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except UnknownEpisodeError as error:
            raise refusal(web.HTTPNotFound, _words(error)) from error
        except (ValueError, OSError, ImportError) as error:
            raise refusal(web.HTTPConflict, _words(error)) from error
        finally:
            self._waiting -= 1


def add_review(
    bags_dir: Path | None, datasets: Path | None
) -> Callable[[web.Application, Console], None]:
    """What adds the Review tab's routes to a console, as `Console.app` takes it."""
    return Review(bags_dir, datasets).add


def _words(error: Exception) -> str:
    return printable(reason(error), 500)


def _give_way() -> None:
    """The robot's own threads come first; a thread of Linux has a niceness of its own."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _whole(given: str) -> int:
    if not (given.isascii() and given.isdecimal() and len(given) <= 6):
        raise bad(f"expected a whole number, got {printable(given, 40)}")
    return int(given)


def _seconds(given: str) -> float:
    try:
        at_s = float(given)
    except ValueError:
        at_s = math.nan
    if not _is_moment(at_s):
        raise bad(f"at: expected seconds of the episode, got {printable(given, 40)}")
    return at_s


def _is_moment(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(float(value)) and 0 <= float(value) <= _DAY_S  # type: ignore[arg-type]
