"""Extracts the images of a request body as the model server does, to compare them with its response."""

import base64
import binascii
import contextlib
import gzip
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from typing import Any, Final

from gateway.uploads.request_body import RequestBody

_MAX_BYTES: Final = 128 * 1024 * 1024
"""Most decompressed bytes; what the model server accepts."""
_MAX_VALUES: Final = 10_000
"""Most commas of a JSON document; the model server accepts fewer."""
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods that the model server accepts. Python unpacks others without a limit, then cuts the result."""
_MAX_ENTRIES: Final = 1000
"""Most entries of a zip's directory; the model server accepts fewer."""
ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_DIRECTORY_ENTRY: Final = b"PK\x01\x02"
_HIDDEN: Final = ("Thumbs.db", "desktop.ini")
_SPACES: Final = b" \t\r\n"


@dataclass(frozen=True)
class ImageContent:
    """Content of one image, None if it is unreadable, its name within a zip, and the repair that its JSON names."""

    content: bytes | None
    name: str | None = None
    repair: Any = None

    @cached_property
    def sha256(self) -> str | None:
        """SHA-256 of the content."""
        return None if self.content is None else hashlib.sha256(self.content).hexdigest()


def read(body: RequestBody) -> Iterator[ImageContent]:
    """Yield the images of a body: those of a JSON document, of a zip in the order of its directory, or the body."""
    content = inflate(body)
    if content.startswith(ZIP):
        yield from _zip(content)
        return
    document = parse(content)
    match document:
        case {"instances": [*instances]}:
            yield from (replace(_instance(item), repair=document.get("repair")) for item in instances)
        case {"image": _} | {"data": _}:
            yield replace(_instance(document), repair=document.get("repair"))
        case _:
            yield ImageContent(content)


def inflate(body: RequestBody) -> bytes:
    """Return the decompressed body, unchanged if it is damaged or has an unknown Content-Encoding."""
    content = decoded(body)
    return body.content if content is None else content


def decoded(body: RequestBody) -> bytes | None:
    """Return the decompressed body; None if it is damaged or has an unknown Content-Encoding."""
    with contextlib.suppress(OSError, EOFError, zlib.error):
        match body.encoding.strip().lower():
            case "" | "identity":
                return body.content
            case "gzip" | "x-gzip":
                with gzip.GzipFile(fileobj=BytesIO(body.content)) as file:
                    return file.read(_MAX_BYTES)
            case "deflate":
                inflater = zlib.decompressobj()
                content = inflater.decompress(body.content, _MAX_BYTES)
                return content if inflater.eof and not inflater.unused_data else None
    return None


def parse(content: bytes) -> Any:
    """Return a JSON document; None for any other content."""
    start = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip(_SPACES)[:1]
    if start in (b"{", b"") and content.count(b",") <= _MAX_VALUES:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(content)
    return None


def _instance(item: Any) -> ImageContent:
    match item:
        case {"b64": str(text)} | {"data": str(text)} | {"image": str(text)}:
            with contextlib.suppress(binascii.Error, ValueError):
                encoded = text.partition(",")[2] if text.startswith("data:") else text
                return ImageContent(base64.b64decode(encoded.encode("ascii").translate(None, _SPACES), validate=True))
    return ImageContent(None)


def _zip(content: bytes) -> Iterator[ImageContent]:
    """Yield the members of a zip that the model server analyses, within the limit of bytes for all of them."""
    if has_many_entries(content):
        return
    left = _MAX_BYTES
    with contextlib.suppress(*DAMAGED), zipfile.ZipFile(BytesIO(content)) as archive:
        for member in archive.infolist():
            if is_skipped(member):
                continue
            left -= member.file_size
            if left < 0:
                return
            yield ImageContent(unpack(archive, member), member.filename)


def has_many_entries(content: bytes) -> bool:
    """Return whether a zip has more entries than the model server reads; counted before any object exists."""
    return content.count(_DIRECTORY_ENTRY) > _MAX_ENTRIES


def is_skipped(member: zipfile.ZipInfo) -> bool:
    """Return whether a member of a zip is a folder or a hidden file."""
    *folders, name = member.filename.split("/")
    return member.is_dir() or "__MACOSX" in folders or name.startswith(".") or name in _HIDDEN


def has_unsupported_method(member: zipfile.ZipInfo) -> bool:
    """Return whether the model server rejects the compression method of a member of a zip."""
    return member.compress_type not in _METHODS


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | None:
    """Return the content of a member of a zip; None if it is damaged or has an unsupported method."""
    if has_unsupported_method(member):
        return None
    with contextlib.suppress(*DAMAGED), archive.open(member) as file:
        return file.read(member.file_size)
    return None


DAMAGED: Final = (  # an unreadable member has no digest, so that a result about it is discarded
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, LookupError, OverflowError),
    RuntimeError,  # an encrypted member, or a feature that zipfile lacks
)
"""What zipfile raises depends on the damaged bytes."""
