"""Response that sends events as they occur (`text/event-stream`, WHATWG HTML, section 9.2)."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.accept import preferred
from gateway.errors import ProblemError

MEDIA_TYPE: Final = "text/event-stream"
KEEP_ALIVE_SECONDS: Final = 15.0
"""Proxies and clients end connections on which nothing arrives for a time, 60 s by default in nginx and httpx."""
Emit = Callable[[str, Any], Awaitable[None]]
"""Sends an event: its name, and its data, which become one line of JSON."""


class EventStream(Response):
    """Sends what `produce` emits, and comments in between; cancels `produce` when the client disconnects.

    Starlette's StreamingResponse would leave the work to the garbage collector then. The response starts with the first
    event or comment. Until then, `produce` may raise a ProblemError, which becomes the response; `is_started` says so.
    """

    media_type = MEDIA_TYPE

    def __init__(self, produce: Callable[["EventStream", Emit], Awaitable[None]]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})  # nginx must not collect it
        del self.headers["content-length"]
        self._produce = produce
        self.is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - of ASGI
        """Send the response."""
        writing = anyio.Lock()

        async def write(text: str) -> None:
            async with writing:
                if not self.is_started:
                    self.is_started = True
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        async def emit(event: str, data: Any) -> None:
            await write(encode(event, data))

        complete, problem = False, None
        async with anyio.create_task_group() as group:
            group.start_soon(_write_comments, write)
            group.start_soon(_cancel_on_disconnect, receive, group.cancel_scope)
            try:
                await self._produce(self, emit)
            except ProblemError as error:
                problem = error
            complete = True
            group.cancel_scope.cancel()
        if problem is not None:
            raise problem
        if complete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def encode(event: str, data: Any) -> str:
    """Return an event; its data are one line in ASCII, because some readers end lines at U+0085, U+2028 and U+2029."""
    document = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return f"event: {event}\ndata: {document}\n\n"


def is_requested(accept: str) -> bool:
    """Return whether a header Accept prefers events; of equal weights, the first one counts."""
    return preferred(accept).media_type == MEDIA_TYPE


async def _write_comments(write: Callable[[str], Awaitable[None]]) -> None:
    while True:
        await anyio.sleep(KEEP_ALIVE_SECONDS)
        await write(": keep-alive\n\n")


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
