"""Reads the images of a request from its body: a file, JSON, a zip or a form."""

import base64
import binascii
import gzip
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any, Final, TypeVar

from handlers import repair
from handlers.dicom import reader
from handlers.dicom.budgeted_stream import ReadBudget
from handlers.dicom.multi_frame import Frame, MultiFrame
from handlers.errors import BadRequestError, ContentTooLargeError, RequestError, UnsupportedMediaTypeError
from handlers.formats import zip as zip_archive
from handlers.formats.image import Budget, Limits
from handlers.formats.raw import RawSamples
from handlers.repair import Repair
from handlers.scope import assurances
from handlers.scope.scope import NO_ASSURANCES, Assurances

_Item = TypeVar("_Item")

_MEMBER: Final = b"\x1f\x8b\x08"
"""First bytes of each member of a gzip body (RFC 1952, section 2.3.1)."""
_MAX_MEMBERS: Final = 4096  # of 64 kB each in blocked gzip
_PART_OVERHEAD: Final = 512
"""Most bytes of boundary and headers around one part of a form. A request that declares more had further parts:
of fields with the same name TorchServe keeps the last."""

_COMMAS_PER_IMAGE: Final = 16
"""Most commas of a JSON body for each image that the limit allows; an image has two, one of them in its data URL, and
its assurances have ten."""

_COUNTING_READS: Final = 200_000
"""Reads that counting the frames of all images may take together: a second. Those of 160 slices take a tenth."""

_USAGE: Final = (
    'Send the image, or a zip of images, as the body (curl -T film.jpg URL), or JSON: {"image": "<base64>"} '
    'or {"instances": [{"b64": "<base64>"}, ...]}.'
)


@dataclass(frozen=True)
class RequestBody:
    """Images of one request, and what the client states about each."""

    # encoded, in order; an error in place of each that cannot be extracted
    images: tuple[bytes | RawSamples | Frame | RequestError, ...]
    several: bool = False  # whether the client sent a list or several frames, so that the response is a list
    names: tuple[str, ...] = ()  # file names of the images of a zip
    assurances: Assurances = NO_ASSURANCES  # for all images
    each: tuple[Assurances, ...] = ()  # for each image, those for all included; empty if there are none
    repair: Repair | None = None  # of all images

    def assured(self, index: int) -> Assurances:
        """Return the assurances for an image."""
        return self.each[index] if self.each else self.assurances


@dataclass(frozen=True)
class BodyLimits:
    """Limits of one request."""

    images: int = 160  # a brain scan has up to about 160 slices
    unzipped: int = 128 * 1024 * 1024  # bytes of all images together
    pixels: int = 320_000_000  # declared by all images together: eight of the largest size, 160 slices of 1414x1414
    image: Limits = field(default_factory=Limits)  # limits of one image

    @property
    def bytes(self) -> int:
        """Longest inflated body: one image as base64 with room for the JSON around it."""
        return self.image.bytes * 4 // 3 + 65536

    def for_request(self, deadline: float) -> Limits:
        """Return the limits of each image of one request, with a budget that they share."""
        return replace(self.image, budget=Budget(self.pixels, self.unzipped, deadline))


def parse_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return request headers by lower-case name.

    TorchServe keeps the client's spelling and adds its own headers (`explain`, `url_path`) in lower case. Where both
    exist, the lower-case one wins: it is TorchServe's.
    """
    lower_case_last = sorted(headers, key=str.islower)
    return {name.lower(): str(headers[name]) for name in lower_case_last if not isinstance(headers[name], dict)}


def read(fields: Mapping[str, Any], headers: Mapping[str, str], limits: BodyLimits) -> RequestBody:
    """Extract the images of one request from one element of TorchServe's `data`: `body`, or the fields of a form."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/x-www-form-urlencoded":
        raise UnsupportedMediaTypeError(
            "A form (application/x-www-form-urlencoded, curl's default for -d and --data-binary) corrupts images. "
            + _USAGE
        )
    content = _part(fields, headers) if media == "multipart/form-data" else fields.get("body", fields.get("data"))
    requested = repair.parse(headers.get(repair.HEADER) or None)
    body = _assured(_content(content, headers, limits), assurances.from_header(headers.get(assurances.HEADER, "")))
    return _split_frames(replace(body, repair=repair.merge(requested, body.repair)), limits)


def _split_frames(body: RequestBody, limits: BodyLimits) -> RequestBody:
    """Replace each DICOM object with several frames by its frames, in order."""
    budget = ReadBudget(_COUNTING_READS)
    counts = [reader.count_frames(image, budget) if isinstance(image, bytes) else 1 for image in body.images]
    if max(counts, default=1) == 1:
        return body
    if sum(counts) > limits.images:
        raise ContentTooLargeError(
            f"The images of this request have {sum(counts)} frames together, as NumberOfFrames declares; the limit is "
            f"{limits.images}. Send fewer frames in one request."
        )
    images = [
        MultiFrame(image, count).frames if isinstance(image, bytes) and count > 1 else (image,)
        for image, count in zip(body.images, counts, strict=True)
    ]
    names, each = _repeated(body.names, counts), _repeated(body.each, counts)
    return replace(body, images=tuple(chain(*images)), several=True, names=names, each=each)


def _repeated(items: tuple[_Item, ...], counts: list[int]) -> tuple[_Item, ...]:
    """Repeat each item; there may be none."""
    return tuple(chain(*map(repeat, items, counts)))


def _assured(body: RequestBody, more: Assurances) -> RequestBody:
    """Add further assurances for all images; an image whose own ones differ becomes an error."""
    common = assurances.merge(body.assurances, more)
    images, each = list(body.images), list(body.each)
    for index, own in enumerate(each):
        try:
            each[index] = assurances.merge(common, own)
        except RequestError as error:
            images[index] = error
    return replace(body, images=tuple(images), assurances=common, each=tuple(each))


def _part(fields: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
    if len(fields) != 1:
        raise BadRequestError(f"The form has {len(fields)} parts; send one image per form. {_USAGE}")
    (content,) = fields.values()
    length = headers.get("content-length", "")
    received = len(content) if isinstance(content, bytes | bytearray | str) else 0
    if not length.isdigit() or int(length) - received > _PART_OVERHEAD:
        raise BadRequestError(f"The form has several parts with the same name; send one image per form. {_USAGE}")
    return content


def _content(content: Any, headers: Mapping[str, str], limits: BodyLimits) -> RequestBody:
    if content is None:
        raise BadRequestError(f"The request has no body. {_USAGE}")
    if isinstance(content, str):
        raise UnsupportedMediaTypeError(f"The body was sent as text, which corrupts images. {_USAGE}")
    if not isinstance(content, bytes | bytearray):
        return _json(content, limits)
    body = _inflate(bytes(content), headers, limits)
    if body[:1] in b"{[ \t\r\n\xef" and (body[:3] == b"\xef\xbb\xbf" or body.lstrip()[:1] in (b"{", b"[")):
        return _json(_parse(body, limits), limits)
    if zip_archive.recognises(body):
        entries = zip_archive.read(body, limits.images, limits.unzipped, limits.image.bytes)
        contents = tuple(entry.content for entry in entries)
        return RequestBody(contents, several=True, names=tuple(entry.name for entry in entries))
    return RequestBody(images=(body,))


def _inflate(body: bytes, headers: Mapping[str, str], limits: BodyLimits) -> bytes:
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("identity", ""):
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedMediaTypeError(f"Unsupported Content-Encoding {coding!r}; send gzip, deflate or none.")
    try:
        inflated = (_deflate if coding == "deflate" else _gzip)(body, limits.bytes + 1)
    except EOFError as error:
        raise BadRequestError(f"The {coding} body is incomplete; send it again.") from error
    except (OSError, zlib.error) as error:
        raise BadRequestError(
            f"The body is not {coding}, which its Content-Encoding names; compress it again, or remove the header."
        ) from error
    if len(inflated) > limits.bytes:
        raise ContentTooLargeError(f"The body inflates to more than {limits.bytes} bytes, the limit.")
    return inflated


def _gzip(body: bytes, size: int) -> bytes:
    """Inflate all members of a body, at most `size` bytes."""
    if body.count(_MEMBER) > _MAX_MEMBERS:
        raise BadRequestError(f"The gzip body has more than {_MAX_MEMBERS} members; send it as one.")
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        return file.read(size)


def _deflate(body: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(body, size)
    if not inflater.eof and len(inflated) < size:
        raise EOFError
    if inflater.unused_data:
        raise zlib.error("it has further bytes after its end")
    return inflated


def _parse(body: bytes, limits: BodyLimits) -> Any:
    # Counted before parsing: every value beyond the first needs a comma, and takes 30 times its bytes in memory.
    if body.count(b",") > _COMMAS_PER_IMAGE * limits.images:
        raise ContentTooLargeError(
            f"The JSON body has more than {_COMMAS_PER_IMAGE * limits.images} values; the limit is "
            f"{limits.images} images."
        )
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"Invalid JSON body: {_json_fault(error)}. {_USAGE}") from error


def _json_fault(error: Exception) -> str:
    """Describe a fault in JSON without Python's words."""
    match error:
        case json.JSONDecodeError():
            return f"line {error.lineno}, column {error.colno} is not JSON"
        case UnicodeDecodeError():
            return f"byte {error.start} is not UTF-8"
        case RecursionError():
            return "it is nested too deeply"
    return "a number has too many digits"


def _json(document: Any, limits: BodyLimits) -> RequestBody:
    if not isinstance(document, dict):
        return _json_images(document, limits)
    images = {key: value for key, value in document.items() if key not in ("assurances", "repair")}
    common = assurances.from_json(document.get("assurances", {}))
    body = replace(_json_images(images, limits), repair=repair.parse(document.get("repair")))
    return _assured(body, common)


def _json_images(document: Any, limits: BodyLimits) -> RequestBody:
    if isinstance(document, dict) and set(document) == {"image"}:
        return RequestBody(images=(_base64(document["image"], "image"),))
    if isinstance(document, dict) and set(document) == {"data"}:
        return RequestBody(images=(RawSamples(_base64(document["data"], "data")),))
    if not isinstance(document, dict) or set(document) != {"instances"}:
        keys = f"keys {sorted(map(str, document))[:5]}" if isinstance(document, dict) else type(document).__name__
        raise BadRequestError(f"The JSON body has unexpected content: {keys}. {_USAGE}")
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise BadRequestError(f"'instances' must be a list of at least one image. {_USAGE}")
    if len(instances) > limits.images:
        raise ContentTooLargeError(f"'instances' has {len(instances)} images; the limit is {limits.images}.")
    items = [_instance(item, index) for index, item in enumerate(instances)]
    return RequestBody(
        images=tuple(image for image, _ in items), several=True, each=tuple(assured for _, assured in items)
    )


def _instance(item: Any, index: int) -> tuple[bytes | RawSamples | RequestError, Assurances]:
    key = f"instances[{index}]"
    try:
        match item:
            case {"b64": text, **others} if set(others) <= {"assurances"}:
                return _base64(text, f"{key}.b64"), assurances.from_json(others.get("assurances", {}))
            case {"data": text, **others} if set(others) <= {"assurances"}:
                return RawSamples(_base64(text, f"{key}.data")), assurances.from_json(others.get("assurances", {}))
        return BadRequestError(f'{key} must be {{"b64": "<base64>"}}.'), NO_ASSURANCES
    except RequestError as error:
        return error, NO_ASSURANCES


def _base64(text: Any, key: str) -> bytes:
    if not isinstance(text, str):
        raise BadRequestError(f"'{key}' must be a string of base64.")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        # `text.split()` would create an object for every space.
        return base64.b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(f"'{key}' is not base64; use the standard alphabet with padding.") from error
