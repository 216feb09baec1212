"""Splits a request body into bodies with one image each, whose results can be sent as they arrive."""

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import Any, Final

from gateway.errors import BadRequestError, UnsupportedMediaTypeError
from gateway.uploads import image_contents
from gateway.uploads.request_body import JSON, RequestBody, of_images

_MAX_IMAGES: Final = 160
_MAX_BYTES: Final = 128 * 1024 * 1024
_MAX_NAME: Final = 1024
"""Limits of the model server for one request: images, their bytes, and characters of a path in a zip."""
_ENCRYPTED: Final = 0x1
_DIGITS: Final = re.compile("([0-9]+)")
_DOCUMENT: Final = (b"{", b"[")


@dataclass(frozen=True)
class SingleImage:
    """One image of a request; `build` creates the body with it when it is sent, so that few exist at a time.

    `build` raises BadRequestError for a damaged member of a zip, and UnsupportedMediaTypeError for one with an
    unsupported compression method.
    """

    name: str | None
    build: Callable[[], RequestBody]


def split(body: RequestBody) -> list[SingleImage] | None:
    """Return the images of a body in the order of the model server's response.

    Returns None for a body that the model server rejects as a whole, such as a damaged zip.
    """
    content = image_contents.decoded(body)
    if content is None:
        return None
    if content.startswith(image_contents.ZIP):
        return _zip(content, body)
    document = image_contents.parse(content)
    match document:
        case {"instances": [*instances]}:
            return _instances(instances, _without(document, "instances"), body)
        case {"image": image}:
            return _instances([{"b64": image}], _without(document, "image"), body)
        case {"data": data}:
            return _instances([{"data": data}], _without(document, "data"), body)
    if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_DOCUMENT):
        return None
    return [SingleImage(_name(body, 0, 1), lambda: of_images([content], body.names, body.repairs))]


def _instances(items: list[Any], common: dict[str, Any], body: RequestBody) -> list[SingleImage] | None:
    if not 0 < len(items) <= _MAX_IMAGES:
        return None
    names = [_name(body, index, len(items)) for index in range(len(items))]
    return [
        SingleImage(name, partial(_instance, common | {"instances": [item]}, name, body.repairs))
        for name, item in zip(names, items, strict=True)
    ]


def _without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


def _instance(document: dict[str, Any], name: str | None, repairs: tuple[str, ...]) -> RequestBody:
    return RequestBody(json.dumps(document).encode(), JSON, names=(name,), repairs=repairs)


def _zip(content: bytes, body: RequestBody) -> list[SingleImage] | None:
    if image_contents.has_many_entries(content):
        return None
    try:
        archive = zipfile.ZipFile(BytesIO(content))
        members = [member for member in archive.infolist() if not image_contents.is_skipped(member)]
    except image_contents.DAMAGED:
        return None
    if (
        not 0 < len(members) <= _MAX_IMAGES
        or sum(member.file_size for member in members) > _MAX_BYTES
        or any(member.flag_bits & _ENCRYPTED or len(member.filename) > _MAX_NAME for member in members)
    ):
        return None
    return [
        SingleImage(member.filename, partial(_member, archive, member, body))
        for member in sorted(members, key=_natural)
    ]


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, body: RequestBody) -> RequestBody:
    """Return an uncompressed zip with one member."""
    if image_contents.has_unsupported_method(member):
        raise UnsupportedMediaTypeError("This zip entry has an unsupported compression method; use deflate.")
    content = image_contents.unpack(archive, member)
    if content is None:
        raise BadRequestError("This zip entry is damaged; create the zip again.")
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as single:
        single.writestr(member.filename, content)
    return replace(body, content=stream.getvalue(), encoding="", names=())


def _natural(member: zipfile.ZipInfo) -> tuple[list[str | int], str]:
    """Return the model server's sort key: slice_2 before slice_10."""
    pieces: list[str | int] = [*_DIGITS.split(member.filename)]
    pieces[1::2] = map(int, pieces[1::2])
    return pieces, member.filename


def _name(body: RequestBody, index: int, count: int) -> str | None:
    return body.names[index] if len(body.names) == count else None
