"""What comes with a request, and what goes back: JSON objects, with the reason where it is no."""

import asyncio
import json
import math
from concurrent.futures import Future
from typing import Any

from aiohttp import web

from rewact_ros.console.robot import ANSWER_S, RefusedError
from rewact_ros.text import printable, reason


def finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


def refusal(kind: type[web.HTTPException], why: str) -> web.HTTPException:
    """An answer of a kind, such as `web.HTTPConflict`, with the reason."""
    return kind(text=json.dumps({"error": why}), content_type="application/json")


def forbidden(error: Exception) -> web.HTTPException:
    """403 with the reason."""
    return refusal(web.HTTPForbidden, str(error))


def bad(why: str) -> web.HTTPException:
    """400 with the reason."""
    return refusal(web.HTTPBadRequest, why)


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
        # JSON is UTF-8, whatever charset the request names: that may be none, or take for ever.
        given = json.loads(await request.read())
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
