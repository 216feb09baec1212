"""The index of a model store: which archives it holds, and the bytes they must have."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handlers.recipe import Name, Sha256, Version
from radserve.errors import ArchiveError

FILE: Final = "index.json"
UNTRAINED: Final = "0.0.0"
"""Version of every archive with random weights: below that of any trained model."""
_LOCK: Final = ".index.lock"


class Entry(BaseModel):
    """One archive.

    Attributes
    ----------
    sha256, size
        Of the archive's file.
    inputs
        Digest of everything that the archive was built from; tells a stale archive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    version: Version
    file: Annotated[str, Field(pattern=r"^[a-z0-9.-]+\.mar$")]
    sha256: Sha256
    size: int
    inputs: Sha256


class Index(BaseModel):
    """All archives of a store, sorted by name and version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    archives: tuple[Entry, ...] = ()

    def find(self, name: str, version: str | None = None) -> Entry | None:
        """Return the archive of that name, the newest if no version is asked for."""
        found = [item for item in self.archives if item.name == name and version in (None, item.version)]
        return max(found, key=lambda item: order(item.version), default=None)

    def put(self, entry: Entry) -> Self:
        """Return the index with an entry added, or replaced where name and version are the same."""
        key = (entry.name, entry.version)
        others = [item for item in self.archives if (item.name, item.version) != key]
        archives = tuple(sorted([*others, entry], key=lambda item: (item.name, order(item.version))))
        return type(self)(archives=archives)


def order(version: str) -> tuple[int, ...]:
    """Sort key of a version."""
    return tuple(int(part) for part in version.split("."))


def read(store: Path) -> Index:
    """Read the index of a store; a store without one is empty.

    Raises
    ------
    ArchiveError
        If the index is broken.
    """
    path = store / FILE
    if not path.exists():
        return Index()
    try:
        return Index.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArchiveError(f"{path}: {where}: {first['msg']}. Remove it and run 'radserve build'.") from error


def write(store: Path, index: Index) -> None:
    """Replace the index of a store in one step."""
    with tempfile.NamedTemporaryFile("w", dir=store, prefix=".index-", delete=False, encoding="utf-8") as file:
        file.write(index.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    os.replace(file.name, store / FILE)  # noqa: PTH105 - Path.replace hides that it is atomic


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Keep others from changing a store; its index is replaced, so the lock is a file beside it.

    Raises
    ------
    ArchiveError
        If the store cannot be written.
    """
    try:
        lock = (store / _LOCK).open("ab")
    except OSError as error:
        raise ArchiveError(f"{store}: cannot be changed: {error.strerror}.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def enter(entry: Entry, store: Path, made: Path, *, replace: bool = True) -> None:
    """Move an archive into its place in a store, and into the index; others may do the same at the same time.

    A trained archive takes the place of an untrained one.

    Parameters
    ----------
    made
        The archive's file, on the file system of the store, or in its place already.
    replace
        Whether it may take the place of other bytes of the same name and version.

    Raises
    ------
    ArchiveError
        If it may not, or the store cannot be changed.
    """
    with locked(store):
        index = read(store)
        held = index.find(entry.name, entry.version)
        if held is not None and held.sha256 != entry.sha256 and not replace:
            raise ArchiveError(
                f"{store}: holds {entry.name} {entry.version} with sha256 {held.sha256}, which is not {entry.sha256}."
            )
        untrained = index.find(entry.name, UNTRAINED) if entry.version != UNTRAINED else None
        os.replace(made, store / entry.file)  # noqa: PTH105 - Path.replace hides that it is atomic
        write(store, Index(archives=tuple(item for item in index.archives if item != untrained)).put(entry))
        if untrained is not None:
            (store / untrained.file).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
