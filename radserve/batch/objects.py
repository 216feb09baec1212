"""Files of a job in a folder or an S3 bucket: each appears complete, and only once."""

from __future__ import annotations

import errno
import io
import os
import stat
from abc import ABC, abstractmethod
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast
from urllib.parse import urlsplit

from radserve.errors import BatchError, StoreError
from radserve.files import create_atomically, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import S3Store

_S3: Final = "s3://"


class Objects(ABC):
    """Files below one folder or prefix; `url` names it. Names are relative, with slashes."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file to read parts of it; raises FileNotFoundError."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Write a new file in one step; return False, and change nothing, if it exists."""

    @abstractmethod
    def replace(self, name: str, content: bytes) -> None:
        """Write a file in one step, whether it exists or not."""

    @abstractmethod
    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield name and bytes of the files below a folder, except hidden ones."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it is missing."""
        try:
            with self.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None


class Folder(Objects):
    """A folder, created by the first file."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self._root = root

    def open(self, name: str) -> BinaryIO:
        """Open a file."""
        return (self._root / name).open("rb")

    def create(self, name: str, content: bytes) -> bool:
        """Write a temporary file and link it."""
        return create_atomically(self._target(name), content)

    def replace(self, name: str, content: bytes) -> None:
        """Write a temporary file and rename it."""
        write_atomically(self._target(name), content, mode=0o644)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Walk the folder."""
        for path in (self._root / prefix).rglob("[!.]*"):
            if path.is_file():
                yield path.relative_to(self._root).as_posix(), path.stat().st_size

    def _target(self, name: str) -> Path:
        target = self._root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BatchError(f"{target.parent}: cannot be created ({error.strerror}).") from error
        return target


class Bucket(Objects):
    """A prefix of an S3 bucket; `create` is a conditional PUT."""

    def __init__(self, bucket: str, prefix: str) -> None:
        super().__init__(f"{_S3}{bucket}/{prefix}".rstrip("/"))
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def open(self, name: str) -> BinaryIO:
        """Open an object; it is read in ranges."""
        import obstore

        with self._errors(name):
            file = obstore.open_reader(self._store, self._prefix + name)
        return cast("BinaryIO", io.BufferedReader(_Raw(file)))

    def read(self, name: str) -> bytes | None:
        """Read an object with one request."""
        import obstore

        try:
            with self._errors(name):
                return bytes(obstore.get(self._store, self._prefix + name).bytes())
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> bool:
        """Put an object unless its key exists."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            with self._errors(name):
                obstore.put(self._store, self._prefix + name, content, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Put an object."""
        import obstore

        with self._errors(name):
            obstore.put(self._store, self._prefix + name, content)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """List the objects page by page."""
        import obstore

        with self._errors(prefix):
            for page in obstore.list(self._store, (self._prefix + prefix).rstrip("/") or None):
                for item in page:
                    name = item["path"].removeprefix(self._prefix)
                    if not name.rpartition("/")[2].startswith("."):
                        yield name, item["size"]

    @property
    def _store(self) -> S3Store:
        return _connect(self._bucket)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            yield
        except (FileNotFoundError, AlreadyExistsError, PreconditionError):
            raise
        except BaseError as error:
            raise _explained(f"{self.url}/{name}", error) from error


class _Raw(io.RawIOBase):
    """Makes obstore's reader a file object that pyarrow accepts."""

    def __init__(self, reader: object) -> None:
        self._reader = cast("BinaryIO", reader)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = bytes(self._reader.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


@cache
def _connect(bucket: str) -> S3Store:
    from radserve.store import aws

    return aws.connect(f"{_S3}{bucket}", bucket, "")


def _explained(name: str, error: Exception) -> StoreError:
    """Return an error of obstore in one line, with advice if its cause is known."""
    from radserve.store import aws

    try:
        aws.explain(name, str(error))
    except StoreError as advice:
        return advice
    return StoreError(f"{name}: {str(error).partition(chr(10))[0]}")


def open_objects(url: str) -> Objects:
    """Return the files of a folder or an s3:// URL; does not connect."""
    if not url.startswith(_S3):
        if "://" in url:
            raise BatchError(f"{url}: use a folder or s3://BUCKET/PREFIX.")
        return Folder(Path(url).absolute())
    parts = urlsplit(url, allow_fragments=False)
    if not parts.netloc:
        raise BatchError(f"{url}: use s3://BUCKET/PREFIX.")
    return Bucket(parts.netloc, url.removeprefix(f"{_S3}{parts.netloc}").strip("/"))


def read_input(name: str, limit: int) -> bytes:
    """Read one input, a path or an s3:// URL, up to `limit` + 1 bytes.

    Raises OSError or ValueError if the input cannot be read, and StoreError if another attempt may succeed.
    """
    if name.startswith(_S3):
        return _read_object(name, limit)
    if "://" in name:
        raise ValueError("Use a path or s3://BUCKET/KEY")
    if not stat.S_ISREG(Path(name).stat().st_mode):  # a FIFO blocks, and a device may have no end
        raise ValueError("Not a regular file")
    with Path(name).open("rb") as file:
        return file.read(limit + 1)


def _read_object(name: str, limit: int) -> bytes:
    import obstore
    from obstore.exceptions import BaseError, InvalidPathError

    bucket, _, key = name.removeprefix(_S3).partition("/")
    if not bucket or not key:
        raise ValueError("Use s3://BUCKET/KEY")
    try:
        content = bytearray()
        for chunk in obstore.get(_connect(bucket), key).stream():
            content += chunk
            if len(content) > limit:
                break
    except InvalidPathError as error:
        raise ValueError("Invalid key of an object") from error
    except FileNotFoundError as error:
        if "<Code>NoSuchBucket<" in str(error):
            raise _explained(name, error) from error
        raise FileNotFoundError(errno.ENOENT, "No such object") from error
    except BaseError as error:
        raise _explained(name, error) from error
    return bytes(content[: limit + 1])
