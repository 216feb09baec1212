"""The body of a request, in any of the forms that TorchServe may hand over, to the images in it."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from handlers.errors import BadRequestError, ContentTooLargeError, RequestError, UnsupportedMediaTypeError
from handlers.formats import zip as zipped
from handlers.formats.cifar import Raw
from handlers.formats.image import Limits

_GZIP: Final = 16 + zlib.MAX_WBITS
_PART_OVERHEAD: Final = 512
"""Most bytes of boundary and headers around one part of a form. What a request announces beyond
them was a part that TorchServe dropped: of fields with the same name it keeps the last."""

_FORMS: Final = (
    'Send the image, or a zip of images, as the body (curl -T film.jpg URL), or JSON: {"image": "<base64>"} '
    'or {"instances": [{"b64": "<base64>"}, ...]}.'
)


@dataclass(frozen=True)
class Body:
    """What was sent.

    Attributes
    ----------
    images
        Encoded images in order; the error stands in the place of one that could not be taken out.
    several
        Whether a list was sent, so that a list is the answer.
    names
        Of the images, where they came in a zip.
    """

    images: tuple[bytes | Raw | RequestError, ...]
    several: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class BodyLimits:
    """What one request may hold.

    Attributes
    ----------
    images
        Most images; a brain scan has up to about 160 slices.
    unzipped
        Most bytes of all entries of a zip together.
    image
        What one image may be.
    """

    images: int = 160
    unzipped: int = 128 * 1024 * 1024
    image: Limits = field(default_factory=Limits)

    @property
    def bytes(self) -> int:
        """Longest body after inflating: one image as base64 with room for the JSON around it."""
        return self.image.bytes * 4 // 3 + 65536


class Headers(Mapping[str, str]):
    """Request headers by lower-case name.

    TorchServe keeps the client's spelling and adds its own (`explain`, `url_path`) in lower case, so
    where two spellings meet, the lower-case one is TorchServe's and wins.
    """

    def __init__(self, headers: Mapping[str, Any]) -> None:
        exact = sorted(headers, key=str.islower)
        self._values = {name.lower(): str(headers[name]) for name in exact if not isinstance(headers[name], dict)}

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def read(fields: Mapping[str, Any], headers: Headers, limits: BodyLimits) -> Body:
    """Take the images out of one request.

    Parameters
    ----------
    fields
        What TorchServe calls one element of `data`: `body`, or the fields of a form.
    headers
        Of the same request.

    Raises
    ------
    BadRequest, ContentTooLarge, UnsupportedMediaType
        If there is nothing that can be read as an image or a list of images.
    """
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/x-www-form-urlencoded":
        raise UnsupportedMediaTypeError(
            "A form (application/x-www-form-urlencoded, curl's default for -d and --data-binary) garbles images. "
            + _FORMS
        )
    content = _part(fields, headers) if media == "multipart/form-data" else fields.get("body", fields.get("data"))
    return _content(content, headers, limits)


def _part(fields: Mapping[str, Any], headers: Headers) -> Any:
    if len(fields) != 1:
        raise BadRequestError(f"The form has {len(fields)} parts; one image is read from a form. {_FORMS}")
    (content,) = fields.values()
    length = headers.get("content-length", "")
    kept = len(content) if isinstance(content, bytes | bytearray | str) else 0
    if not length.isdigit() or int(length) - kept > _PART_OVERHEAD:
        raise BadRequestError(f"The form holds more than the one part that arrived. {_FORMS}")
    return content


def _content(content: Any, headers: Headers, limits: BodyLimits) -> Body:
    if content is None:
        raise BadRequestError(f"The request has no body. {_FORMS}")
    if isinstance(content, str):
        raise UnsupportedMediaTypeError(f"The body came as text, which garbles images. {_FORMS}")
    if not isinstance(content, bytes | bytearray):
        return _json(content, limits)
    raw = _inflate(bytes(content), headers, limits)
    if raw[:1] in b"{[ \t\r\n\xef" and (raw[:3] == b"\xef\xbb\xbf" or raw.lstrip()[:1] in (b"{", b"[")):
        return _json(_parse(raw), limits)
    if zipped.recognises(raw):
        entries = zipped.read(raw, limits.images, limits.unzipped, limits.image.bytes)
        return Body(
            tuple(entry.content for entry in entries), several=True, names=tuple(entry.name for entry in entries)
        )
    return Body(images=(raw,))


def _inflate(raw: bytes, headers: Headers, limits: BodyLimits) -> bytes:
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("identity", ""):
        return raw
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedMediaTypeError(f"Content-Encoding {coding!r} is not read here; send gzip, deflate or none.")
    inflater = zlib.decompressobj(zlib.MAX_WBITS if coding == "deflate" else _GZIP)
    try:
        inflated = inflater.decompress(raw, limits.bytes + 1)
    except zlib.error as error:
        raise BadRequestError(f"The body does not inflate as its Content-Encoding {coding!r} says: {error}.") from error
    if len(inflated) > limits.bytes:
        raise ContentTooLargeError(f"The body inflates to more than the {limits.bytes} bytes that are read.")
    if not inflater.eof:
        raise BadRequestError(f"The {coding} body is cut off; send all of it.")
    return inflated


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequestError(f"The JSON body cannot be parsed: {reason}. {_FORMS}") from error


def _json(document: Any, limits: BodyLimits) -> Body:
    if isinstance(document, dict) and set(document) == {"image"}:
        return Body(images=(_base64(document["image"], "image"),))
    if isinstance(document, dict) and set(document) == {"data"}:
        return Body(images=(Raw(_base64(document["data"], "data")),))
    if not isinstance(document, dict) or set(document) != {"instances"}:
        found = sorted(map(str, document))[:5] if isinstance(document, dict) else type(document).__name__
        raise BadRequestError(f"The JSON body has {found}. {_FORMS}")
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise BadRequestError(f"'instances' must be a list of at least one image. {_FORMS}")
    if len(instances) > limits.images:
        raise ContentTooLargeError(
            f"'instances' holds {len(instances)} images; at most {limits.images} are read at once."
        )
    return Body(images=tuple(_instance(item, index) for index, item in enumerate(instances)), several=True)


def _instance(item: Any, index: int) -> bytes | Raw | RequestError:
    where = f"instances[{index}]"
    try:
        match item:
            case {"b64": text, **others} if not others:
                return _base64(text, f"{where}.b64")
            case {"data": text, **others} if not others:
                return Raw(_base64(text, f"{where}.data"))
        return BadRequestError(f'{where} must be {{"b64": "<base64>"}}.')
    except RequestError as error:
        return error


def _base64(text: Any, where: str) -> bytes:
    if not isinstance(text, str):
        raise BadRequestError(f"'{where}' must be a string of base64.")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(f"'{where}' is not base64 ({error}); use the standard alphabet with padding.") from error
