"""A store in a folder: changed by one at a time, each file replaced in one step and on the disk before it counts."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from radserve.build import model_store
from radserve.errors import CorruptDataError, IndexConflictError, MissingBlobError, StoreError
from radserve.host.file_lock import exclusive
from radserve.store.backend import BLOBS, CHUNK, INDEX, Blob, Document, Download, Leftover, Progress

_PART: Final = ".part"


class Folder:
    """A folder; it is made by the first push."""

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root
        self._blobs = root / BLOBS

    def read_index(self) -> Document | None:
        """Return the index; it is replaced in one step, so it is whole."""
        with self._explained():
            try:
                data = (self._root / INDEX).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Document(data, _tag(data))

    def write_index(self, data: bytes, tag: str | None) -> None:
        """Replace the index, if it still is the one of that tag."""
        with self._explained():
            self._root.mkdir(parents=True, exist_ok=True)
            with exclusive(self._root / ".lock"):
                held = self.read_index()
                if (held.tag if held else None) != tag:
                    raise IndexConflictError(f"{self.name}: its index was changed by another one.")
                descriptor, name = tempfile.mkstemp(dir=self._root, prefix=".index-", suffix=_PART)
                with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                    file.write(data)
                    os.fchmod(file.fileno(), 0o644)
                    _to_disk(file)
                _replace(Path(name), self._root / INDEX)

    def stat(self, sha256: str) -> Blob | None:
        """Look for a blob."""
        with self._explained():
            try:
                found = (self._blobs / sha256).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Blob(sha256, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the blob is there and right: a file of our own is quickly hashed."""
        found = self.stat(sha256)
        return found is not None and found.size == size and model_store.sha256(self._blobs / sha256) == sha256

    def put(self, sha256: str, source: Path, progress: Progress) -> None:
        """Copy a file; what an interrupted copy of it left is overwritten, so at most one such file is left."""
        with self._explained():
            self._blobs.mkdir(parents=True, exist_ok=True)
            part = self._blobs / f".{sha256}{_PART}"
            with exclusive(part) as file, source.open("rb") as data:
                file.truncate(0)
                if _copy(data, file, source.stat().st_size, progress) != sha256:
                    part.unlink()
                    raise CorruptDataError(f"{source}: changed while it was pushed.")
                _to_disk(file)
                _replace(part, self._blobs / sha256)

    @contextmanager
    def open(self, sha256: str, start: int, tag: str | None) -> Iterator[Download]:
        """Begin to read a blob; the tag is that of its file."""
        path = self._blobs / sha256
        with self._explained():
            try:
                file = path.open("rb")
            except (FileNotFoundError, NotADirectoryError) as error:
                raise MissingBlobError(f"{path}: missing.") from error
        with file:
            found = os.fstat(file.fileno())
            same = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
            if tag not in (None, same):
                raise CorruptDataError(f"{path}: was replaced while it was read.")
            file.seek(start)
            yield Download(found.st_size, start, same, iter(lambda: file.read(CHUNK), b""))

    def blobs(self) -> Iterator[Blob]:
        """List all blobs."""
        names = sorted(path.name for path in self._blobs.glob("[0-9a-f]*")) if self._blobs.is_dir() else []
        yield from filter(None, map(self.stat, names))

    def delete(self, sha256: str) -> None:
        """Remove a blob."""
        with self._explained():
            (self._blobs / sha256).unlink(missing_ok=True)

    def leftovers(self) -> Iterator[Leftover]:
        """List files of copies that did not come to an end."""
        for folder in (self._root, self._blobs):
            for path in sorted(folder.glob(f".*{_PART}")):
                started = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield Leftover(str(path.relative_to(self._root)), started)

    def discard(self, leftover: Leftover) -> None:
        """Remove such a file."""
        with self._explained():
            (self._root / leftover.key).unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{error.filename or self.name}: {error.strerror}.") from error


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _copy(data: BinaryIO, file: BinaryIO, size: int, progress: Progress) -> str:
    """Copy, and return the SHA-256 of what was copied."""
    total, done = hashlib.sha256(), 0
    progress(0, size)
    while chunk := data.read(CHUNK):
        total.update(chunk)
        file.write(chunk)
        done += len(chunk)
        progress(done, size)
    return total.hexdigest()


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _replace(made: Path, target: Path) -> None:
    os.replace(made, target)  # noqa: PTH105 - Path.replace hides that it is atomic
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
