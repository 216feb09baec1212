"""Images that were asked about, where the operator keeps them: each once, for as long as a result names it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import math
import os
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

from gateway.errors import HistoryError
from gateway.history import Result
from gateway.uploads.request_body import JSON, Body

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST: Final = 128 * 1024 * 1024
"""Bytes that a compressed image may unpack to."""
_YOUNG: Final = 3600.0
"""Seconds for which a content that no result names yet is left alone: it was written just now."""
_ATTEMPTS: Final = 5
_BEGINS: Final = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_OTHER: Final = "application/octet-stream"
MEDIA_TYPES: Final = (*_BEGINS.values(), "image/webp", "application/dicom", _OTHER)


class Images:
    """A folder: `sha256/DIGEST` is a content, and `results/ID` a hard link to it.

    The links count who names a content, whatever is written and deleted at the same time, by however many gateways: it
    is gone with the last one. A result's id holds its time, so what is too old can be told without the history.
    """

    def __init__(self, folder: Path) -> None:
        self._contents = folder / "sha256"
        self._named = folder / "results"

    async def keep(self, results: Sequence[Result], body: Body) -> int:
        """Keep the images of a request; return how many of the results now have theirs.

        Raises
        ------
        HistoryError
            If they cannot be written.
        """
        return await self._run(self._keep, results, body)

    async def read(self, identity: str) -> bytes | None:
        """Return a result's image."""
        return await self._run(self._read, identity)

    async def delete(self, identity: str) -> None:
        """Forget a result's image."""
        await self._run(self._delete, identity)

    async def expire(self, before: datetime) -> None:
        """Forget the images of all results given before a time."""
        await self._run(self._expire, before)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except OSError as error:
            raise HistoryError(f"The images in {self._named.parent} cannot be used: {error}.") from error

    def _keep(self, results: Sequence[Result], body: Body) -> int:
        wanted = {result.image_sha256 for result in results}
        found = {digest: content for content in _contents(body) if (digest := _sha256(content)) in wanted}
        kept = [result for result in results if result.image_sha256 in found]
        for result in kept:
            self._put(result.id, result.image_sha256, found[result.image_sha256])
        return len(kept)

    def _put(self, identity: str, digest: str, content: bytes) -> None:
        target = self._contents / digest
        for attempt in range(_ATTEMPTS):
            for folder in (self._contents, self._named):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not target.exists():
                self._write(target, content)
            try:
                (self._named / identity).hardlink_to(target)
            except FileNotFoundError:  # its last result was deleted just now
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def _write(self, target: Path, content: bytes) -> None:
        part = target.with_name(f"{target.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(content)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _read(self, identity: str) -> bytes | None:
        try:
            return (self._named / identity).read_bytes()
        except FileNotFoundError:
            return None

    def _delete(self, identity: str) -> None:
        link = self._named / identity
        try:
            digest = _sha256(link.read_bytes())
        except FileNotFoundError:
            return
        link.unlink(missing_ok=True)
        _drop(self._contents / digest)

    def _expire(self, before: datetime) -> None:
        if not self._named.is_dir():
            return
        milliseconds = before.timestamp() * 1000
        for link in self._named.iterdir():
            if _time(link.name) < milliseconds:
                link.unlink(missing_ok=True)
        for content in self._contents.iterdir():
            _drop(content, time.time() - _YOUNG)


def media_type(content: bytes) -> str:
    """Return what an image's first bytes say it is; application/octet-stream for all that a browser need not know."""
    if content[128:132] == b"DICM":
        return "application/dicom"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _BEGINS.items() if content.startswith(start)), _OTHER)


def _time(identity: str) -> float:
    """Return the milliseconds since 1970 that an id begins with; never for what is none, and not ours."""
    try:
        return UUID(identity).int >> 80
    except ValueError:
        return math.inf


def _drop(content: Path, before: float | None = None) -> None:
    """Remove a content that no result names; if one begins to name it at this moment, that keeps a link of its own."""
    try:
        found = content.stat()
    except FileNotFoundError:
        return
    if found.st_nlink == 1 and (before is None or found.st_mtime < before):
        content.unlink(missing_ok=True)


def _contents(body: Body) -> Iterator[bytes]:
    """Return what may be the images of a body: itself, or what stands in its JSON."""
    content = _unpacked(body)
    yield content
    if not body.media_type.startswith(JSON):
        return
    try:
        document = json.loads(content)
    except ValueError:
        return
    for text in _texts(document):
        try:
            yield base64.b64decode(text)
        except (binascii.Error, ValueError):
            continue


def _texts(document: Any) -> Iterator[str]:
    if not isinstance(document, dict):
        return
    instances = document.get("instances")
    several = instances if isinstance(instances, list) else []
    for text in (document.get("image"), *(item.get("b64") for item in several if isinstance(item, dict))):
        if isinstance(text, str):
            yield text


def _unpacked(body: Body) -> bytes:
    if body.encoding != "gzip":
        return body.content
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body.content, _LONGEST)
    except zlib.error:
        return body.content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
