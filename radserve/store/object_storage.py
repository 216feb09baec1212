"""Object storage of an archive store: operations that all backends share."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from radserve.errors import CorruptDataError, IndexConflictError, InterruptedTransferError, MissingBlobError, StoreError

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

INDEX: Final = "index.json"
BLOBS: Final = "blobs/sha256"
MAX_INDEX_SIZE: Final = 16 * 2**20  # bytes; a larger index is not read into memory
PART_SIZE: Final = 8 * 2**20  # bytes of one part of an upload; S3 allows 10,000 parts of at least 5 MiB
RETRIES: RetryConfig = {
    "max_retries": 8,
    "backoff": {"init_backoff": timedelta(milliseconds=250), "max_backoff": timedelta(seconds=8)},
    "retry_timeout": timedelta(hours=1),
}
"""Retries of one request after a 5xx or 429 response or a failed connection, with exponential backoff."""
TIMEOUTS: Final[ClientConfig] = {"connect_timeout": "5s", "read_timeout": "60s", "timeout": "1day"}
"""The last one bounds a whole transfer, so it must allow for large archives on slow connections."""
_CHUNK: Final = 2**16  # bytes; an interrupted download loses at most this much
_CAUSE: Final = re.compile(r'(?:message|error): "([^"]+)"|(BadScheme|TooManyRedirects|InvalidCertificate)')
"""The innermost cause in the debug output of an obstore error, which has no attributes."""
STATUS: Final = re.compile(r"status code: (\d{3} ?[^:\n]*)")

Progress = Callable[[int, int], None]  # called with the number of bytes transferred and the total


@dataclass(frozen=True)
class StoredIndex:
    """Bytes of an index and the version that a conditional write compares with."""

    data: bytes
    version: UpdateVersion


@dataclass(frozen=True)
class Blob:
    """Stored bytes of an archive."""

    sha256: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class UnfinishedUpload:
    """Data that an interrupted push left behind; `key` identifies it within the storage."""

    key: str
    started: datetime


@dataclass(frozen=True)
class Download:
    """A transfer of a blob of `size` bytes; it starts at offset 0 if the server supports no ranges."""

    size: int
    start: int
    chunks: Iterator[bytes]


class Storage(ABC):
    """Objects of one archive store; `name` is its URL for messages, without credentials.

    Every method raises `StoreError` after the retries that make sense.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def _connect(self) -> ObjectStore:
        """Open the object store; called once, at the first access."""

    @cached_property
    def _objects(self) -> ObjectStore:
        return self._connect()

    def require_writable(self) -> None:  # noqa: B027 - a storage is writable unless it overrides this
        """Raise StoreError if the storage is read-only."""

    def read_index(self) -> StoredIndex | None:
        """Return the index, or None if the store has none yet."""
        import obstore

        try:
            with self._errors(INDEX):
                response = obstore.get(self._objects, INDEX)
                size = response.meta["size"]
                if size > MAX_INDEX_SIZE:
                    raise StoreError(f"{self.name}/{INDEX}: {size} bytes; an index has at most {MAX_INDEX_SIZE} bytes.")
                version = {key: value for key in ("e_tag", "version") if (value := response.meta.get(key))}
                return StoredIndex(bytes(response.bytes()), cast("UpdateVersion", version))
        except MissingBlobError:
            return None

    def write_index(self, data: bytes, version: UpdateVersion | None) -> None:
        """Replace the index if it still has this version (None: it does not exist), else raise IndexConflictError."""
        import obstore

        attributes = {"Content-Type": "application/json", "Cache-Control": "no-cache"}
        with self._errors(INDEX):
            obstore.put(self._objects, INDEX, data, mode=version or "create", attributes=attributes)

    def stat(self, sha256: str) -> Blob | None:
        """Return size and age of a blob, or None if it is missing."""
        import obstore

        try:
            with self._errors(blob_path(sha256)):
                meta = obstore.head(self._objects, blob_path(sha256))
        except MissingBlobError:
            return None
        return Blob(sha256, meta["size"], meta["last_modified"])

    def find_damage(self, sha256: str, size: int) -> str:
        """Read a blob and compare it with its size and SHA-256; return the problem, or an empty string."""
        transfer, digest, count = self.read(sha256), hashlib.sha256(), 0
        if transfer.size != size:
            return f"{transfer.size} bytes, but the index says {size}; push it again."
        for chunk in transfer.chunks:
            digest.update(chunk)
            count += len(chunk)
        if digest.hexdigest() != sha256:
            return f"sha256 {digest.hexdigest()} of {count} bytes, but the index says {sha256}; push it again."
        return ""

    def read(self, sha256: str, start: int = 0) -> Download:
        """Start to read a blob, from a byte offset if the server supports it.

        Raises MissingBlobError, InterruptedTransferError or CorruptDataError, here or while the chunks are read;
        CorruptDataError if the blob is replaced meanwhile.
        """
        import obstore
        from obstore.exceptions import NotSupportedError

        path = blob_path(sha256)
        with self._errors(path):
            try:
                response = obstore.get(self._objects, path, options={"range": {"offset": start}} if start else {})
            except NotSupportedError:
                start = 0
                response = obstore.get(self._objects, path)

        def chunks() -> Iterator[bytes]:
            try:
                with self._errors(path):
                    yield from map(bytes, response.stream(min_chunk_size=_CHUNK))
            except IndexConflictError as error:
                raise CorruptDataError(f"{self.name}/{path}: replaced during the transfer.") from error

        return Download(response.meta["size"], start, chunks())

    def put(self, sha256: str, source: Path, progress: Progress) -> None:
        """Store a file, which must have this SHA-256, as a blob, which appears when it is complete."""
        import obstore

        with source.open("rb") as file, self._errors(blob_path(sha256)):
            chunks = verified_chunks(file, _CHUNK, sha256, progress)
            obstore.put(self._objects, blob_path(sha256), chunks, chunk_size=PART_SIZE)

    def blobs(self) -> list[Blob]:
        """List all blobs."""
        import obstore

        blobs = []
        with self._errors(BLOBS):
            for page in obstore.list(self._objects, f"{BLOBS}/"):
                for item in page:
                    name = item["path"].rpartition("/")[2]
                    if re.fullmatch("[0-9a-f]{64}", name):
                        blobs.append(Blob(name, item["size"], item["last_modified"]))
        return blobs

    def delete(self, sha256: str) -> None:
        """Delete a blob."""
        import obstore

        with suppress(MissingBlobError), self._errors(blob_path(sha256)):
            obstore.delete(self._objects, blob_path(sha256))

    def unfinished_uploads(self) -> list[UnfinishedUpload]:
        """List what interrupted pushes left behind."""
        return []

    def discard(self, upload: UnfinishedUpload) -> None:
        """Delete what an interrupted push left behind."""
        raise StoreError(f"{self.name}: unknown unfinished upload {upload.key}; this storage has none.")

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            yield
        except FileNotFoundError as error:
            self._explain(str(error))
            raise MissingBlobError(f"{self.name}/{path}: not found.") from error
        except (AlreadyExistsError, PreconditionError) as error:
            raise IndexConflictError(f"{self.name}/{path}: changed by another process; try again.") from error
        except BaseError as error:
            text = str(error)
            self._explain(text)
            status = STATUS.search(text)
            if status is not None:
                raise StoreError(f"{self.name}/{path}: the server responds {status[1].strip()}.") from error
            cause = _CAUSE.search(text)
            reason = (cause[1] or cause[2]) if cause else text.partition("\n")[0]
            raise InterruptedTransferError(f"{self.name}/{path}: transfer failed: {reason.rstrip('.')}.") from error

    def _explain(self, text: str) -> None:  # noqa: B027 - optional: most errors need no explanation
        """Raise a StoreError if a backend's error has a cause that it knows how to fix."""


def verified_chunks(file: BinaryIO, size: int, sha256: str, progress: Progress) -> Iterator[bytes]:
    """Yield a file in chunks of this size, the last one only if the whole file has this SHA-256."""
    digest, done, total = hashlib.sha256(), 0, os.fstat(file.fileno()).st_size
    progress(0, total)
    chunk = file.read(size)
    while chunk:
        following = file.read(size)
        digest.update(chunk)
        if not following and digest.hexdigest() != sha256:
            raise CorruptDataError(f"{file.name}: changed during the push.")
        yield chunk
        done += len(chunk)
        progress(done, total)
        chunk = following


def blob_path(sha256: str) -> str:
    """Return the path of a blob within its store."""
    return f"{BLOBS}/{sha256}"
