"""Index of a model store: its archives and their checksums."""

import fcntl
import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from handlers.recipe import Name, Sha256, Version
from radserve.errors import ArchiveError, StoreIndexError
from radserve.files import write_atomically

FILE: Final = "index.json"
RELEASES: Final = "releases.json"  # apart from the index, in which an earlier release accepts no further keys
UNTRAINED: Final = "0.0.0"  # version of every archive with placeholder weights; lower than that of any trained model
_LOCK: Final = ".index.lock"
_DIGESTS: Final = TypeAdapter(frozenset[str])


class Entry(BaseModel):
    """One archive in the index.

    `inputs` is the digest of the inputs of its build, to detect outdated archives. `quarantine` is the reason for which
    the archive was rolled back; it is then selected only by its version.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    version: Version
    file: Annotated[str, Field(pattern=r"^[a-z0-9.-]+\.mar$")]
    sha256: Sha256
    size: int
    inputs: Sha256
    quarantine: str | None = None


class Index(BaseModel, extra="forbid", frozen=True):
    """Archives of a store, sorted by name and version."""

    archives: tuple[Entry, ...] = ()

    def find(self, name: str, version: str | None = None) -> Entry | None:
        """Return an archive by name; without a version, the newest."""
        matches = [item for item in self.archives if item.name == name and version in (None, item.version)]
        return max(matches, key=lambda item: order(item.version), default=None)

    def put(self, entry: Entry) -> Self:
        """Return a copy with an entry added; it replaces the entry with the same name and version.

        The same archive stays in quarantine.
        """
        key = (entry.name, entry.version)
        before = self.find(*key)
        if before is not None and before.sha256 == entry.sha256:
            entry = entry.model_copy(update={"quarantine": before.quarantine})
        others = [item for item in self.archives if (item.name, item.version) != key]
        archives = tuple(sorted([*others, entry], key=lambda item: (item.name, order(item.version))))
        return type(self)(archives=archives)


def order(version: str) -> tuple[int, ...]:
    """Return the sort key of a version."""
    return tuple(int(part) for part in version.split("."))


def read(store: Path) -> Index:
    """Read the index of a store; a store without an index is empty."""
    path = store / FILE
    try:
        return Index.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Index()
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise StoreIndexError(f"{path}: {key}: {first['msg']}. Delete it and run 'radserve build'.") from error


def _unreadable(path: Path, error: OSError) -> StoreIndexError:
    advice = "; the server's user must be able to read it" if isinstance(error, PermissionError) else ""
    return StoreIndexError(f"{path}: {error.strerror}{advice}.")


def require_archives(store: Path) -> None:
    """Raise StoreIndexError, which says what to do, if a store is missing, unreadable or empty."""
    remedy = f"Build the archives: radserve build --missing --model-store {store}"
    try:
        next(store.iterdir(), None)
    except FileNotFoundError as error:
        raise StoreIndexError(f"{store}: no such folder. {remedy}") from error
    except NotADirectoryError as error:
        raise StoreIndexError(f"{store}: not a folder; choose another --model-store.") from error
    except OSError as error:
        raise _unreadable(store, error) from error
    if not read(store).archives:
        raise StoreIndexError(f"{store}: the model store is empty. {remedy}")


def write(store: Path, index: Index) -> None:
    """Replace the index of a store atomically."""
    write_atomically(store / FILE, index.model_dump_json(indent=2, exclude_none=True) + "\n", mode=0o644)


def quarantine(store: Path, name: str, reasons: Mapping[str, str], lifted: Collection[str]) -> Index:
    """Set the quarantine of a model's archives by their digest, and lift that of some versions; return the index.

    What is lifted is added to the releases, and what is set is removed from them, before the index is replaced.

    Raises OSError or ArchiveError if the store is not writable, unless nothing has to be changed.
    """

    def mark(entry: Entry) -> Entry:
        if entry.name != name:
            return entry
        kept = None if entry.version in lifted else entry.quarantine
        return entry.model_copy(update={"quarantine": reasons.get(entry.sha256, kept)})

    def marked(index: Index) -> Index:
        return Index(archives=tuple(map(mark, index.archives)))

    def releases(index: Index) -> frozenset[str]:
        entries = (item for item in index.archives if item.name == name and item.version in lifted)
        lifts = (item.sha256 for item in entries if item.quarantine is not None)
        return released(store).union(lifts).difference(reasons)

    index = read(store)
    if marked(index) != index or releases(index) != released(store):
        with locked(store):
            index = read(store)
            if releases(index) != released(store):
                text = _DIGESTS.dump_json(releases(index)).decode()
                write_atomically(store / RELEASES, text + "\n", mode=0o644)
            index = marked(index)
            write(store, index)
    return index


def released(store: Path) -> frozenset[str]:
    """Return the digests of the archives whose quarantine was lifted; none if the file is missing or damaged."""
    try:
        return _DIGESTS.validate_json((store / RELEASES).read_bytes())
    except (OSError, ValidationError):
        return frozenset()


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Lock a store for changes; the lock is a separate file, because the index is replaced."""
    try:
        lock = (store / _LOCK).open("ab")
    except OSError as error:
        raise ArchiveError(f"{store}: not writable: {error.strerror}.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def enter(entry: Entry, store: Path, archive: Path, *, replace: bool = True) -> None:
    """Move an archive into a store and add it to the index; safe for concurrent callers.

    The archive is on the same file system and may have its final path. A trained archive replaces an untrained one of
    the same name. With `replace` false, raises ArchiveError if another archive has the same name and version.
    """
    with locked(store):
        index = read(store)
        existing = index.find(entry.name, entry.version)
        if existing is not None and existing.sha256 != entry.sha256 and not replace:
            raise ArchiveError(
                f"{store}: already contains {entry.name} {entry.version} with sha256 {existing.sha256}, "
                f"not {entry.sha256}."
            )
        untrained = index.find(entry.name, UNTRAINED) if entry.version != UNTRAINED else None
        archive.replace(store / entry.file)
        write(store, Index(archives=tuple(item for item in index.archives if item != untrained)).put(entry))
        if untrained is not None:
            (store / untrained.file).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
