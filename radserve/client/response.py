"""Reads HTTP responses: a JSON document, a picture, or the error that a status stands for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn

import httpx

from radserve.errors import (
    ClientError,
    InvalidResponseError,
    RejectedRequestError,
    ResponseTimeoutError,
    ServerFailedError,
    UnreachableError,
)
from radserve.schema.png import read_scanlines
from radserve.schema.prediction import Image


@dataclass(frozen=True)
class Advice:
    """What to do about failures that the server itself does not explain; by status, or without a response."""

    timeout: str
    unreachable: str
    statuses: Mapping[int, str]


INFERENCE: Final = Advice(
    timeout="Send fewer images at once, or increase the timeout.",
    unreachable="Start the server with scripts/serve, or check the URL.",
    statuses={
        401: "The API key is missing or invalid.",
        403: "The API key lacks the role for this request.",
        404: "Unknown model or version. Check the name, or build it ('radserve build NAME') and restart the server.",
        405: "This is not a prediction API; check the URL.",
        413: "The request exceeds the server's limit (max_request_size in its config.properties). Send a smaller or "
        "compressed image, or fewer images at once.",
        429: "Too many requests. Wait, or send fewer at once.",
        500: "Internal error; see the log of the server.",
        502: "The server behind this address is not running. Start it, or wait until it is back.",
        503: "The server is overloaded or is replacing a worker. Wait and try again, or send fewer requests at once.",
        504: "The server behind this address did not respond in time.",
        507: "The worker ended while it processed the request, possibly out of memory; see the log of the server.",
    },
)


def failure(error: httpx.HTTPError, where: str, advice: Advice = INFERENCE) -> ClientError:
    """Convert an error of httpx; `where` names the server."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    match error:
        case httpx.ReadTimeout() | httpx.WriteTimeout() | httpx.PoolTimeout():
            return ResponseTimeoutError(
                f"{where} did not respond in time ({reason}); it may still be working. {advice.timeout}"
            )
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return UnreachableError(
                f"{where} has an untrusted certificate ({reason}). Pass its authority with --cacert FILE (cacert), and "
                "use the host name in the certificate."
            )
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return UnreachableError(f"Cannot connect to {where} ({reason}). {advice.unreachable}")
        case _:
            return InvalidResponseError(f"The connection to {where} closed during the response ({reason}).")


def document(response: httpx.Response) -> Any:
    """Return the JSON of a response with status 200; raises ProblemError for 4xx and 5xx, or InvalidResponseError."""
    require_ok(response)
    return parse(response)


def require_ok(response: httpx.Response) -> None:
    """Raise as `document` does unless the status is 200."""
    status = response.status_code
    if status >= HTTPStatus.BAD_REQUEST:
        raise problem(response)
    if status != HTTPStatus.OK:
        target = f" to {response.headers['Location']!r}" if "Location" in response.headers else ""
        raise InvalidResponseError(f"The server answered {status}{target} instead of 200; check the URL.")


def problem(response: httpx.Response, advice: Advice = INFERENCE) -> RejectedRequestError | ServerFailedError:
    """Return the error that a 4xx or 5xx response stands for."""
    title, detail, extensions = _details(response, advice.statuses)
    kind = RejectedRequestError if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else ServerFailedError
    return kind(response.status_code, title, detail, extensions)


def streamed_problem(text: str) -> RejectedRequestError | ServerFailedError | InvalidResponseError:
    """Return the error that an event of a stream stands for."""
    try:
        status = json.loads(text)["status"]
        if type(status) is not int or not HTTPStatus.BAD_REQUEST <= status < 600:
            raise ValueError("not the status of an error")
        return problem(httpx.Response(status, content=text.encode()))
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        return InvalidResponseError(f"The response has an invalid event ({type(error).__name__}).")


def _details(response: httpx.Response, advice: Mapping[int, str]) -> tuple[str, str, dict[str, Any]]:
    """Read title, detail and extensions of problem details (RFC 9457), or TorchServe's {"code", "type", "message"}."""
    status = response.status_code
    title = httpx.codes.get_reason_phrase(status) or "Unknown status"
    try:
        content = response.json()
    except (ValueError, RecursionError):
        content = None
    quote = ""
    match content:
        case {"title": str(problem_title), "detail": str(detail), **others} if problem_title and detail:
            return problem_title, detail, {str(name): value for name, value in others.items() if name != "status"}
        case {"message": str(message)} | {"detail": str(message)} if message:
            quote = f" Message of the server: {message[:300]}"
    return title, advice.get(status, "The response gives no reason; see the log of the server.") + quote, {}


def parse(response: httpx.Response) -> Any:
    """Return the JSON document of a response with any status; raises InvalidResponseError."""
    require_type(response, "application/json")
    try:
        return json.loads(response.content, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidResponseError(f"The response is not valid JSON ({error}).") from error


def picture(response: httpx.Response, size: Image | None) -> bytes:
    """Return the PNG of a response if it is complete and has the size of an image; raises as `document` does."""
    require_ok(response)
    require_type(response, "image/png")
    try:
        read_scanlines(response.content, None if size is None else (size.width, size.height))
    except ValueError as error:
        raise InvalidResponseError(f"Invalid picture: {error}.") from error
    return response.content


def require_type(response: httpx.Response, required: str) -> None:
    """Raise InvalidResponseError unless a response has a media type."""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != required:
        raise InvalidResponseError(
            f"The response has media type {media_type or 'unknown'}, not {required}; check the URL."
        )


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
