"""Reads responses of other servers (model server, token issuer, hosts of images) within bounds."""

from typing import Any, Final

import httpx
from pydantic_core import from_json

from gateway.errors import OversizedResponseError, ResponseError

IDENTITY: Final = {"Accept-Encoding": "identity"}
"""Header of every request: a compressed response could exceed its limit while it is decompressed."""
MAX_VALUES: Final = 250_000
"""Values of a JSON document: 160 images with 1,500 labels each. As objects they take at most 25 MB."""


async def read(response: httpx.Response, max_bytes: int) -> bytes:
    """Read the body of a streamed response; raises OversizedResponseError as soon as it exceeds a size.

    Raises ResponseError if it is compressed. The caller limits the time, which httpx limits for each read only.
    """
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ResponseError("the response is compressed although the request excludes that")
    length = response.headers.get("content-length", "0")
    content = bytearray()
    if not (length.isascii() and length.isdigit() and int(length) > max_bytes):
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > max_bytes:
                break
        else:
            return bytes(content)
    raise OversizedResponseError(f"the response exceeds {max_bytes} bytes")


def media_type(value: str) -> str:
    """Return the media type in a Content-Type header, without parameters."""
    return value.partition(";")[0].strip().lower()


def parse_json(body: bytes) -> Any:
    """Parse a JSON document of at most MAX_VALUES values, nested at most 200 deep; raises ResponseError."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:  # before any object exists
        raise ResponseError(f"the JSON document has more than {MAX_VALUES} values")
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ResponseError(f"invalid JSON: {error}") from error
