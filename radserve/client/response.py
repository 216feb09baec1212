"""What a server sent back: a JSON document or a picture, or the error that it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
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

_HINTS: Final = {
    401: "The server wants a key, and got none or a wrong one.",
    403: "The key that was sent may not do this.",
    404: "The server does not serve this model or version: check its name, or build it ('radserve build NAME') and "
    "start the server again; it prints what it serves.",
    405: "This is no prediction API; check the URL.",
    413: "The request has more bytes than the server reads (max_request_size in its config.properties): "
    "send the image smaller or compressed, or fewer images at once.",
    429: "Too many requests; wait, or send fewer at once.",
    500: "A fault of the server; its log says more.",
    502: "The server behind this address is not running; start it, or wait until it is back.",
    503: "The server cannot take the request now: its queue is full, or a worker is being replaced. "
    "Wait and try again, or send fewer at once.",
    504: "The server behind this address did not answer in time.",
    507: "The worker that had the request ended, out of memory perhaps; the server's log says more. Try again.",
}
"""What to do about a status whose answer does not say it itself."""


def failure(error: httpx.HTTPError, url: str) -> ClientError:
    """Return RadServe's error for one of httpx."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    match error:
        case httpx.ReadTimeout() | httpx.WriteTimeout() | httpx.PoolTimeout():
            return ResponseTimeoutError(
                f"{url} did not answer in time ({reason}); it may still be working. "
                "Send fewer images at once, or wait longer."
            )
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return UnreachableError(
                f"{url} has a certificate that is not trusted ({reason}); name its authority with --cacert FILE "
                "(cacert), and the host as the certificate does."
            )
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return UnreachableError(
                f"Nobody answers at {url} ({reason}); start the server with scripts/serve, or check the URL."
            )
        case _:
            return InvalidResponseError(
                f"The connection to {url} broke off before the whole answer was there ({reason})."
            )


def document(response: httpx.Response) -> Any:
    """Return the JSON of an answer.

    Raises
    ------
    Refused, ServerFailed
        If the status is 4xx or 5xx.
    NotAnAnswer
        If it is another than 200, or what came is no JSON.
    """
    _accept(response)
    return parse(response)


def _accept(response: httpx.Response) -> None:
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    if status < HTTPStatus.BAD_REQUEST:
        target = f" to {response.headers['Location']!r}" if "Location" in response.headers else ""
        raise InvalidResponseError(f"The server answered {status}{target}, which is no prediction; check the URL.")
    raise problem(response)


def problem(response: httpx.Response, hints: Mapping[int, str] = _HINTS) -> RejectedRequestError | ServerFailedError:
    """Return the error that a status of 4xx or 5xx stands for.

    Parameters
    ----------
    hints
        What to do about a status whose answer does not say it itself.
    """
    title, detail = _details(response, hints)
    kind = RejectedRequestError if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else ServerFailedError
    return kind(response.status_code, title, detail)


def _details(response: httpx.Response, hints: Mapping[int, str]) -> tuple[str, str]:
    """Read RFC 9457's problem details, TorchServe's own {"code", "type", "message"}, or nothing at all."""
    status = response.status_code
    title = httpx.codes.get_reason_phrase(status) or "Unknown status"
    try:
        content = response.json()
    except (ValueError, RecursionError):
        content = None
    match content:
        case {"title": str(said), "detail": str(detail)} if said and detail:
            return said, detail
        case {"message": str(said)} | {"detail": str(said)} if said:
            said = f" It said: {said[:300]}"
        case _:
            said = ""
    return title, hints.get(status, "The answer does not say why; the log of the server may.") + said


def parse(response: httpx.Response) -> Any:
    """Return the JSON of a response, whatever its status.

    Raises
    ------
    NotAnAnswer
        If it is none.
    """
    _require(response, "application/json")
    try:
        return json.loads(response.content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidResponseError(f"The answer is not JSON ({error}). Nothing of it is used.") from error


def picture(response: httpx.Response, size: Image | None) -> bytes:
    """Return the PNG of an answer, once it was decoded as a check.

    Parameters
    ----------
    size
        The image whose size it must have, if that is known.

    Raises
    ------
    Refused, ServerFailed, NotAnAnswer
        See `document`.
    """
    _accept(response)
    _require(response, "image/png")
    try:
        scanlines = read_scanlines(response.content)
        if size is not None and (scanlines.width, scanlines.height) != (size.width, size.height):
            raise ValueError(
                f"the PNG is {scanlines.width} x {scanlines.height}, but the image is {size.width} x {size.height}"
            )
    except ValueError as error:
        raise InvalidResponseError(
            f"The answer is not the picture that was asked for ({error}). It is not used."
        ) from error
    return response.content


def _require(response: httpx.Response, wanted: str) -> None:
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != wanted:
        raise InvalidResponseError(f"The answer is {media_type or 'of no type'}, not {wanted}; check the URL.")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
