"""Limits of Lambda: duration of a request, and size of its response."""

import asyncio
import contextlib
import json
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.errors import ContentTooLargeError, GatewayTimeoutError, ProblemError

TEXT_TYPES: Final = (
    "text/",
    "application/json",
    problems.MEDIA_TYPE,
    "application/javascript",
    "application/manifest+json",
)
"""Media types of responses that are sent as text; all others are sent as base64."""
MARGIN: Final = 1.0
"""Seconds before the function's timeout, reserved for sending the response."""
_MIN_SECONDS: Final = 0.05
_MAX_BYTES: Final = 6 * 1024 * 1024 - 65536
"""Limit of the response body as JSON: Lambda's 6 MB without space for header fields."""
_MAX_BYTES_ALB: Final = 1024 * 1024 - 65536
"""The same for a load balancer, which accepts 1 MB from a function."""


class LambdaLimits:
    """Responds with a problem where Lambda would stop the function or drop its response without a reason.

    Responses are buffered: Lambda returns them in one piece anyway, and a timeout may replace them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one connection."""
        context = scope.get("aws.context")
        if scope["type"] != "http" or context is None:
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []

        async def buffer(message: Message) -> None:
            messages.append(message)

        seconds = max(context.get_remaining_time_in_millis() / 1000 - MARGIN, _MIN_SECONDS)
        problem: ProblemError | None
        try:
            async with asyncio.timeout(seconds) as timeout:
                await self._app(scope, receive, buffer)
            problem = _check_size(scope, messages)
        except TimeoutError:
            if not timeout.expired():
                raise
            problem = GatewayTimeoutError(
                f"No response within {seconds:.1f} s, the time limit of this function. "
                "Send fewer images at once, or try again."
            )
        if problem is not None:
            await problems.render(Request(scope), problem)(scope, receive, send)
            return
        for message in messages:
            await send(message)


def _check_size(scope: Scope, messages: list[Message]) -> ProblemError | None:
    if not messages:
        return None
    limit = _MAX_BYTES_ALB if "elb" in scope["aws.event"]["requestContext"] else _MAX_BYTES
    body = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
    size = _encoded_size(body, Headers(raw=messages[0]["headers"]).get("content-type", ""), limit)
    if size <= limit:
        return None
    return ContentTooLargeError(
        f"The response has {size} bytes as Lambda counts them; the limit is {limit}. "
        "Send fewer or smaller images at once; narrow the filter of results.",
        title="Response too large",
    )


def _encoded_size(body: bytes, media_type: str, limit: int) -> int:
    """Return the size of a body within Lambda's JSON; not exact if even the worst case is below the limit."""
    if any(text in media_type for text in TEXT_TYPES):
        if len(body) * 6 <= limit:  # \u0000
            return len(body)
        with contextlib.suppress(UnicodeDecodeError):  # mangum sends invalid text as base64
            return len(json.dumps(body.decode()))
    return -(-len(body) // 3) * 4
