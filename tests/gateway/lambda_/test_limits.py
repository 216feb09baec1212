"""Limits of duration and response size."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.lambda_.limits import LambdaLimits
from tests.gateway.lambda_ import events


@dataclass
class Context:
    """The part of Lambda's context that is used."""

    milliseconds: int = 29_000

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def ask(app: Any, context: Context | None = None, event: events.Event | None = None) -> tuple[int, str, bytes]:
    """Send one request through the middleware; return status, media type and body."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}}
    scope["aws.context"], scope["aws.event"] = context or Context(), event or events.url("GET", "/")
    asyncio.run(LambdaLimits(app)(scope, receive, send))
    headers = dict(sent[0]["headers"])
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], headers[b"content-type"].decode().partition(";")[0], body


async def _never(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(60)


async def _halfway(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/csv")]})
    await asyncio.sleep(60)


@pytest.mark.parametrize("app", [_never, _halfway])
def test_timeout_replaces_started_response(app: Any) -> None:
    status, media_type, body = ask(app, Context(1100))
    assert (status, media_type) == (504, "application/problem+json")
    assert "within 0.1 s" in json.loads(body)["detail"]


def test_chunked_response_is_complete() -> None:
    async def pieces() -> Any:
        yield "a,"
        yield "b\n"

    assert ask(StreamingResponse(pieces(), media_type="text/csv")) == (200, "text/csv", b"a,b\n")


def test_timeout_of_application_is_raised() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError("of the application")

    with pytest.raises(TimeoutError, match="of the application"):
        ask(failing)


@pytest.mark.parametrize(
    ("body", "media_type", "event", "status"),
    [
        (b"x" * 6_000_000, "application/json", None, 200),
        (b'"' * 3_500_000, "application/json", None, 413),  # JSON escapes every character
        (b"x" * 4_600_000, "image/png", None, 200),
        (b"x" * 4_700_000, "image/png", None, 413),
        (b"x" * 900_000, "text/csv", events.alb("GET", "/"), 200),
        (b"x" * 900_000, "image/png", events.alb("GET", "/"), 413),
        (b"\xff" * 4_600_000, "text/plain", None, 200),  # invalid text, so base64
        (b"\xff" * 4_700_000, "text/plain", None, 413),
    ],
)
def test_response_size_is_counted_like_lambda(
    body: bytes, media_type: str, event: events.Event | None, status: int
) -> None:
    result, kind, _ = ask(Response(body, media_type=media_type), event=event)
    assert result == status
    assert kind == (media_type if status == 200 else "application/problem+json")


def test_limits_apply_on_lambda_only() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    asyncio.run(
        LambdaLimits(Response(b"x" * 7_000_000))({"type": "http", "method": "GET", "headers": []}, receive, send)
    )
    assert sent[0]["status"] == 200
