"""What a request asks about: an image as it is, a form with files, or JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from gateway.errors import BadRequestError, ContentTooLargeError, UnsupportedMediaTypeError
from gateway.settings import Settings

JSON: Final = "application/json"
_FORM: Final = "multipart/form-data"
_GARBLED: Final = "application/x-www-form-urlencoded"
_REFERENCES: Final = ("object", "url")
_LONGEST_REFERENCE: Final = 8192
"""A longer document holds an image; reading it twice would cost more than all else here."""
_LONGEST_NAME: Final = 255


@dataclass(frozen=True)
class Body:
    """What is sent on to the server.

    Attributes
    ----------
    names
        Of the files, in order; None where the client gave none. Empty where it is not known how many images there are.
    """

    content: bytes
    media_type: str = ""
    encoding: str = ""
    names: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Reference:
    """An image that is kept elsewhere: under a key of the bucket for uploads, or at a URL."""

    kind: str
    value: str


async def read(request: Request, settings: Settings) -> Body | Reference:
    """Read a request's body.

    Raises
    ------
    BadRequest, ContentTooLarge, UnsupportedMediaType
        If it cannot be read as documented.
    """
    media_type = request.headers.get("content-type", "")
    encoding = request.headers.get("content-encoding", "")
    kind = media_type.partition(";")[0].strip().lower()
    if kind == _GARBLED:
        raise UnsupportedMediaTypeError(
            "A form (application/x-www-form-urlencoded, what curl sends with -d and --data-binary) garbles images. "
            "Send the image as it is: curl -T FILE, or as a file of a form: curl -F file=@FILE."
        )
    if kind == _FORM:
        if encoding not in ("", "identity"):
            raise UnsupportedMediaTypeError(
                "A compressed form is not read; compress the image itself, or send it alone."
            )
        return await _form(request, settings)
    content = await request.body()
    if kind == JSON and encoding in ("", "identity") and len(content) <= _LONGEST_REFERENCE:
        reference = _reference(content)
        if reference is not None:
            return reference
    if not content:
        raise BadRequestError("The body is empty; send an image as it is, a form with files, or JSON.")
    return Body(content, media_type, encoding, (_name(request.headers.get("x-filename")),))


async def _form(request: Request, settings: Settings) -> Body:
    try:
        async with request.form(max_files=settings.max_files, max_fields=16, max_part_size=1024) as form:
            files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            images = [(_name(part.filename), part.content_type or "", await part.read()) for part in files]
    except HTTPException as error:
        if "Too many files" in str(error.detail):
            raise ContentTooLargeError(
                f"The form has more than {settings.max_files} files; send them in several requests."
            ) from error
        raise BadRequestError(f"The form cannot be read: {error.detail}") from error
    if not images:
        raise BadRequestError("The form has no file; send one or several as file=@FILE.")
    names = tuple(name for name, _, _ in images)
    if len(images) == 1:
        _, media_type, content = images[0]
        return Body(content, media_type, names=names)
    instances = [{"b64": base64.b64encode(content).decode()} for _, _, content in images]
    return Body(json.dumps({"instances": instances}).encode(), JSON, names=names)


def _name(sent: str | None) -> str | None:
    """Return the name of a file as it is told again: of a bounded length, without what moves a cursor."""
    return "".join(sign for sign in sent[:_LONGEST_NAME] if sign.isprintable()) or None if sent else None


def _reference(content: bytes) -> Reference | None:
    """Return what a document refers to, if it does; all others are the server's to read."""
    try:
        document: Any = json.loads(content)
    except RecursionError as error:
        raise BadRequestError("The document is nested too deeply.") from error
    except ValueError:
        return None
    if not isinstance(document, Mapping):
        return None
    named = [key for key in _REFERENCES if key in document]
    if not named:
        return None
    if len(document) != 1 or not isinstance(document[named[0]], str):
        raise BadRequestError(
            f'A document that names an image elsewhere has the one key "{named[0]}", whose value is a text.'
        )
    return Reference(named[0], document[named[0]])
