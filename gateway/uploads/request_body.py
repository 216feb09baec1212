"""Reads request bodies: one image, a form with files, or JSON."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from gateway.bounded_response import media_type
from gateway.errors import BadRequestError, ContentTooLargeError, UnsupportedMediaTypeError
from gateway.settings import Settings

JSON: Final = "application/json"
_FORM: Final = "multipart/form-data"
_URLENCODED: Final = "application/x-www-form-urlencoded"
_REFERENCE_KEYS: Final = ("object", "url")
_MAX_REFERENCE_BYTES: Final = 8192
"""A longer document holds an image; parsing it here as well would be the most expensive step of the gateway."""
_MAX_NAME: Final = 255


@dataclass(frozen=True)
class RequestBody:
    """Body to send to the model server; `names` has a file name or None per image, or is empty if unknown.

    `repairs` are the values of the field `repair` of a form.
    """

    content: bytes
    media_type: str = ""
    encoding: str = ""
    names: tuple[str | None, ...] = ()
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageReference:
    """Reference to an image: `object` (the key of an upload) or `url`."""

    kind: str
    value: str


async def read(request: Request, settings: Settings) -> RequestBody | ImageReference:
    """Read the body of a request; raises BadRequestError, ContentTooLargeError or UnsupportedMediaTypeError."""
    content_type = request.headers.get("content-type", "")
    encoding = request.headers.get("content-encoding", "")
    is_compressed = encoding not in ("", "identity")
    kind = media_type(content_type)
    if kind == _URLENCODED:
        raise UnsupportedMediaTypeError(
            f"{_URLENCODED} (curl -d and --data-binary) corrupts images. "
            "Send the image with curl -T FILE, or as a form: curl -F file=@FILE."
        )
    if kind == _FORM:
        if is_compressed:
            raise UnsupportedMediaTypeError(
                "Compressed forms are not supported; compress the image, or send it without a form."
            )
        return await _read_form(request, settings)
    content = await request.body()
    if kind == JSON and not is_compressed and len(content) <= _MAX_REFERENCE_BYTES:
        reference = _parse_reference(content)
        if reference is not None:
            return reference
    if not content:
        raise BadRequestError("The body is empty; send an image, a form with files, or JSON.")
    return RequestBody(content, content_type, encoding, (_clean_name(request.headers.get("x-filename")),))


async def require_form(request: Request) -> None:
    """Raise UnsupportedMediaTypeError unless the body of a request is a form."""
    if media_type(request.headers.get("content-type", "")) != _FORM:
        raise UnsupportedMediaTypeError(f"The body must be a form ({_FORM}); send files as curl -F file=@FILE does.")


async def _read_form(request: Request, settings: Settings) -> RequestBody:
    try:
        async with request.form(max_files=settings.max_files, max_fields=16, max_part_size=1024) as form:
            files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            repairs = tuple(value for value in form.getlist("repair") if isinstance(value, str))
            images = [(_clean_name(part.filename), part.content_type or "", await part.read()) for part in files]
    except HTTPException as error:
        if "Too many files" in str(error.detail):
            raise ContentTooLargeError(
                f"The form has more than {settings.max_files} files; send them in several requests."
            ) from error
        raise BadRequestError(f"Invalid form: {error.detail}") from error
    if not images:
        raise BadRequestError("The form has no file; send one or more as file=@FILE.")
    names = tuple(name for name, _, _ in images)
    if len(images) == 1:
        _, content_type, content = images[0]
        return RequestBody(content, content_type, names=names, repairs=repairs)
    return of_images([content for _, _, content in images], names, repairs)


def of_images(
    images: Sequence[bytes], names: tuple[str | None, ...] = (), repairs: tuple[str, ...] = ()
) -> RequestBody:
    """Return a body with several images, each of which gets its own result."""
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    return RequestBody(json.dumps({"instances": instances}).encode(), JSON, names=names, repairs=repairs)


def _clean_name(name: str | None) -> str | None:
    """Return a file name without control characters, limited in length."""
    return "".join(character for character in (name or "")[:_MAX_NAME] if character.isprintable()) or None


def _parse_reference(content: bytes) -> ImageReference | None:
    """Return the reference in a document; None for all other documents, which the model server reads."""
    try:
        document: Any = json.loads(content)
    except RecursionError as error:
        raise BadRequestError("The JSON document is nested too deeply.") from error
    except ValueError:
        return None
    if not isinstance(document, Mapping):
        return None
    key = next((key for key in _REFERENCE_KEYS if key in document), None)
    if key is None:
        return None
    if len(document) != 1 or not isinstance(document[key], str):
        raise BadRequestError(f'A document with "{key}" must have no other key, and its value must be a string.')
    return ImageReference(key, document[key])
