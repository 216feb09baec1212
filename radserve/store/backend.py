"""What a store is kept in: the few operations that a folder, S3 and a web server have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

INDEX: Final = "index.json"
BLOBS: Final = "blobs/sha256"
LARGEST_INDEX: Final = 16 * 2**20
"""Bytes; no index of archives is larger, so more is not read into memory."""
CHUNK: Final = 2**20

Progress = Callable[[int, int], None]
"""Called with the bytes that are done and those that there are."""


@dataclass(frozen=True)
class Document:
    """An index as it stands in a store; `tag` tells it from every other one (an ETag)."""

    data: bytes
    tag: str


@dataclass(frozen=True)
class Blob:
    """The bytes of an archive in a store."""

    sha256: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Leftover:
    """What an interrupted push left: `key` is the backend's own name for it."""

    key: str
    started: datetime


@dataclass(frozen=True)
class Download:
    """Bytes on their way.

    Attributes
    ----------
    size
        Of the whole blob.
    start
        Which of its bytes comes first; 0 where the backend cannot begin elsewhere.
    tag
        Asks for the rest of the same bytes later; None where the backend has none.
    """

    size: int
    start: int
    tag: str | None
    chunks: Iterator[bytes]


class Backend(Protocol):
    """Where a store is kept. What goes wrong is a `StoreError`, after the retries that make sense.

    Attributes
    ----------
    name
        Its URL as messages show it, without any password.
    """

    name: str

    def read_index(self) -> Document | None:
        """Return the index; None where there is none yet."""

    def write_index(self, data: bytes, tag: str | None) -> None:
        """Replace the index of that tag in one step, or make one where there is none (None).

        Raises
        ------
        IndexChanged
            If it is another one by now.
        """

    def stat(self, sha256: str) -> Blob | None:
        """Look for a blob."""

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the blob is there, whole and, as far as can be told without reading it from afar, right."""

    def put(self, sha256: str, source: Path, progress: Progress) -> None:
        """Store a file as a blob; it appears when all of it is there.

        Raises
        ------
        Corrupt
            If the file has another sum.
        """

    def open(self, sha256: str, start: int, tag: str | None) -> AbstractContextManager[Download]:
        """Begin to read a blob at a byte; with the tag of an earlier Download only if it is still the same.

        Raises
        ------
        BlobMissing, BrokenOff, Corrupt
            If it is not there, the connection fails, or it is not the same.
        """

    def blobs(self) -> Iterator[Blob]:
        """List all blobs."""

    def delete(self, sha256: str) -> None:
        """Remove a blob."""

    def leftovers(self) -> Iterator[Leftover]:
        """List what interrupted pushes left."""

    def discard(self, leftover: Leftover) -> None:
        """Remove what an interrupted push left."""
