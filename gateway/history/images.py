"""Stores the images of results: each content once, as long as a result refers to it."""

import asyncio
import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from uuid import UUID

from gateway.errors import HistoryError
from gateway.history import Result
from gateway.uploads import image_contents
from gateway.uploads.request_body import RequestBody
from radserve.files import write_atomically

P = ParamSpec("P")
T = TypeVar("T")

_GRACE_PERIOD: Final = 3600.0
"""Seconds for which an unreferenced content is kept: it may have been written just now."""
_ATTEMPTS: Final = 5
_SIGNATURES: Final = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_UNKNOWN_TYPE: Final = "application/octet-stream"
MEDIA_TYPES: Final = (*_SIGNATURES.values(), "image/webp", "application/dicom", _UNKNOWN_TYPE)


def _in_thread(
    method: Callable[Concatenate["ImageStore", P], T],
) -> Callable[Concatenate["ImageStore", P], Coroutine[Any, Any, T]]:
    async def run(self: "ImageStore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(method, self, *args, **kwargs)
        except OSError as error:
            raise HistoryError(f"The image folder {self.folder} is unavailable: {error}.") from error

    return run


class ImageStore:
    """Images in a folder: `sha256/DIGEST` is a content, `results/ID` a hard link to it.

    The link count tells how many results refer to a content, even if several gateways write and delete concurrently:
    the content is deleted with its last link. Result ids hold the time, so expiry needs no history. Methods raise
    HistoryError if the folder is unavailable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._contents = folder / "sha256"
        self._links = folder / "results"

    @_in_thread
    def add(self, results: Sequence[Result], body: RequestBody) -> int:
        """Store the images of a request; return how many results have an image now."""
        digests = {result.image_sha256 for result in results}
        contents = {
            image.sha256: image.content
            for image in image_contents.read(body)
            if image.content is not None and image.name is None and image.sha256 in digests
        }
        stored = [result for result in results if result.image_sha256 in contents]
        for result in stored:
            self._store(result.id, result.image_sha256, contents[result.image_sha256])
        return len(stored)

    @_in_thread
    def read(self, result_id: str) -> bytes | None:
        """Return the image of a result."""
        return self._read(result_id)

    @_in_thread
    def has(self, result_id: str) -> bool:
        """Return whether the image of a result is stored."""
        return (self._links / result_id).exists()

    @_in_thread
    def delete(self, result_id: str) -> None:
        """Delete the image of a result."""
        content = self._read(result_id)
        if content is not None:
            (self._links / result_id).unlink(missing_ok=True)
            _delete_unreferenced(self._contents / _sha256(content))

    @_in_thread
    def expire(self, before: datetime) -> None:
        """Delete the images of all results older than a time."""
        if not self._links.is_dir():
            return
        milliseconds = before.timestamp() * 1000
        for link in self._links.iterdir():
            if _time(link.name) < milliseconds:
                link.unlink(missing_ok=True)
        for content in self._contents.iterdir():
            _delete_unreferenced(content, time.time() - _GRACE_PERIOD)

    def _store(self, result_id: str, digest: str, content: bytes) -> None:
        target = self._contents / digest
        for attempt in range(_ATTEMPTS):
            for folder in (self._contents, self._links):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not target.exists():
                write_atomically(target, content, mode=0o600)
            try:
                with contextlib.suppress(FileExistsError):  # a prediction that is explained may have its image
                    (self._links / result_id).hardlink_to(target)
            except FileNotFoundError:  # another gateway just deleted the last other result
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def _read(self, result_id: str) -> bytes | None:
        try:
            return (self._links / result_id).read_bytes()
        except FileNotFoundError:
            return None


def media_type(content: bytes) -> str:
    """Return the media type of an image by its signature."""
    if content[128:132] == b"DICM":
        return "application/dicom"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in _SIGNATURES.items() if content.startswith(signature)), _UNKNOWN_TYPE)


def _time(result_id: str) -> float:
    """Return the milliseconds since 1970 in a result id; infinity for other file names, which are kept."""
    try:
        return UUID(result_id).int >> 80
    except ValueError:
        return math.inf


def _delete_unreferenced(content: Path, before: float = math.inf) -> None:
    """Delete a content without links; a link that is created concurrently keeps the data."""
    try:
        status = content.stat()
    except FileNotFoundError:
        return
    if status.st_nlink == 1 and status.st_mtime < before:
        content.unlink(missing_ok=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
