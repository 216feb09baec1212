"""What Lambda bounds: how long a request takes, and how many bytes its answer has."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.errors import ContentTooLargeError, GatewayTimeoutError

TEXT: Final = ("text/", "application/json", problems.MEDIA_TYPE, "application/javascript", "application/manifest+json")
"""Media types of answers that are given as text; all others are base64."""
MARGIN: Final = 1.0
"""Seconds before the end of the function's time; an answer that comes as late as that still has to be sent."""
_LEAST: Final = 0.05
_MOST: Final = 6 * 1024 * 1024 - 65536
"""Bytes of an answer as JSON with room for its header fields, of the 6 MB that Lambda gives back."""
_MOST_OF_ALB: Final = 1024 * 1024 - 65536
"""The same of the 1 MB that a load balancer takes from a function."""


class Bounds:
    """Answers with a problem where Lambda would kill the function or refuse its answer, without saying why.

    An answer is held back until it is whole: Lambda gives it in one piece anyway, and a timeout may still replace it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        context = scope.get("aws.context")
        if scope["type"] != "http" or context is None:
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []

        async def hold(message: Message) -> None:
            messages.append(message)

        seconds = max(context.get_remaining_time_in_millis() / 1000 - MARGIN, _LEAST)
        try:
            async with asyncio.timeout(seconds) as limit:
                await self._app(scope, receive, hold)
        except TimeoutError:
            if not limit.expired():
                raise
            await _late(scope, seconds)(scope, receive, send)
            return
        problem = _too_large(scope, messages)
        if problem is not None:
            await problem(scope, receive, send)
            return
        for message in messages:
            await send(message)


def _late(scope: Scope, seconds: float) -> Response:
    return problems.response(
        Request(scope),
        GatewayTimeoutError.status,
        GatewayTimeoutError.title,
        f"There was no answer within {seconds:.1f} s, which is the time of this function. "
        "Ask about fewer images at once, or try again.",
    )


def _too_large(scope: Scope, messages: list[Message]) -> Response | None:
    most = _MOST_OF_ALB if "elb" in scope["aws.event"]["requestContext"] else _MOST
    body = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
    size = _size(body, Headers(raw=messages[0]["headers"]).get("content-type", ""), most) if messages else 0
    if size <= most:
        return None
    return problems.response(
        Request(scope),
        ContentTooLargeError.status,
        "Answer too large",
        f"The answer has {size} bytes as Lambda counts them, and at most {most} can be given. "
        "Ask about fewer or smaller images at once; of results, ask for a narrower filter.",
    )


def _size(body: bytes, media_type: str, most: int) -> int:
    """Bytes of a body within the JSON that Lambda gives back; where even the worst case fits, not counted exactly."""
    if any(text in media_type for text in TEXT):
        if len(body) * 6 <= most:  # \u0000
            return len(body)
        with contextlib.suppress(UnicodeDecodeError):  # mangum makes base64 of what is no text after all
            return len(json.dumps(body.decode()))
    return -(-len(body) // 3) * 4
