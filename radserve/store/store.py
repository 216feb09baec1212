"""Archive stores: a signed index and the blobs that it names."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import stamina

from radserve.build import mar
from radserve.build import model_store as model_stores
from radserve.build.model_store import Entry, Index
from radserve.errors import ArchiveError, IndexConflictError, InterruptedTransferError, StoreError
from radserve.store import backends, index, signature, stale_index
from radserve.store.download import download
from radserve.store.index import Catalog, PublishedArchive
from radserve.store.object_storage import INDEX, Blob, Progress, Storage, StoredIndex, UnfinishedUpload
from radserve.store.signature import KeyRing, KeySource
from radserve.store.stale_index import IndexState

# stamina logs every retry. Without logging configuration, Python would print these lines among the command's output.
logging.getLogger("stamina").addHandler(logging.NullHandler())

_WRITE_ATTEMPTS: Final = 20  # attempts to write the index; each failure means that another process wrote it
_RECENT: Final = timedelta(hours=1)
"""Garbage collection leaves a blob of this age alone; a push stores an older one again, which renews its age."""


@dataclass(frozen=True)
class IndexSnapshot:
    """The index of a store at one time.

    `stored` is its file, for conditional writes; None if there is no index yet. `key_ids` and `verified_by` are those
    of `signature.VerifiedPayload`. A model store records `state` to detect a rollback.
    """

    catalog: Catalog
    stored: StoredIndex | None
    key_ids: tuple[str, ...]
    verified_by: str | None
    state: IndexState


@dataclass(frozen=True)
class Transfer:
    """A pushed or pulled archive; `fresh` if this call published it or added it to the model store."""

    archive: Entry
    fresh: bool


@dataclass(frozen=True)
class ArchiveCheck:
    """Result for one archive; `problem` is empty if it is intact."""

    where: str
    name: str
    version: str
    problem: str


@dataclass(frozen=True)
class Report:
    """Results of `Store.verify`; `signer` is the id of the key that signed the index, None if that was not checked."""

    serial: int
    signer: str | None
    checked: tuple[ArchiveCheck, ...]

    @property
    def failures(self) -> tuple[ArchiveCheck, ...]:
        """Checks with a problem."""
        return tuple(item for item in self.checked if item.problem)


@dataclass(frozen=True)
class Garbage:
    """Data that garbage collection deleted, or would delete."""

    blobs: tuple[Blob, ...]
    uploads: tuple[UnfinishedUpload, ...]


class Store:
    """An archive store; create it with `open_store`."""

    def __init__(self, storage: Storage, keys: KeyRing) -> None:
        self.storage = storage
        self.keys = keys

    @property
    def name(self) -> str:
        """URL for messages, without credentials."""
        return self.storage.name

    def snapshot(self, *, accept_unsigned: bool = False) -> IndexSnapshot:
        """Read the index, and check its signature if a public key is configured."""
        stored = self.storage.read_index()
        if stored is None:
            return IndexSnapshot(Catalog(), None, (), None, IndexState.of(0, b""))
        source = f"{self.name}/{INDEX}"
        content = signature.unseal(stored.data, (), source)
        if content.key_ids or not accept_unsigned:
            content = signature.unseal(stored.data, self.keys.trusted, source)
        catalog = index.parse(content.payload, source)
        state = IndexState.of(catalog.serial, content.payload)
        return IndexSnapshot(catalog, stored, content.key_ids, content.verified_by, state)

    def entries(self) -> tuple[PublishedArchive, ...]:
        """Return all archives, sorted by name and version."""
        return self.snapshot().catalog.archives

    def pull(
        self,
        name: str,
        version: str | None,
        target: Path,
        progress: Progress | None = None,
        *,
        accept_older: bool = False,
    ) -> Transfer:
        """Download an archive into a model store unless it is there; without a version, the newest.

        `accept_older` accepts an index that is older than the last one this model store used. If the archive is
        unknown, cannot be fetched or is not intact, no file with its name is created.
        """
        snapshot = self.snapshot()
        archive = snapshot.catalog.require(name, version, self.name)
        try:
            target.mkdir(parents=True, exist_ok=True)
            if snapshot.verified_by is not None:
                stale_index.check(target, self.name, snapshot.state, accept_older=accept_older)
            return Transfer(archive.entry, download(self.storage, archive, target, progress or _ignore))
        except OSError as error:
            raise StoreError(f"{error.filename or target}: {error.strerror}.") from error

    def mirror(self, target: Path) -> tuple[Entry, ...]:
        """Make a model store hold every archive of this store, which must not be empty, and no others."""
        entries = tuple(item.entry for item in self.entries())
        if not entries:
            raise StoreError(f"{self.name}: empty; publish archives with 'radserve store push --all'.")
        try:
            target.mkdir(parents=True, exist_ok=True)
            with model_stores.locked(target):
                archives = model_stores.read(target).archives
                kept = tuple(item for item in archives if item.model_copy(update={"quarantine": None}) in entries)
                model_stores.write(target, Index(archives=kept))
        except OSError as error:
            raise StoreError(f"{error.filename or target}: {error.strerror}.") from error
        return tuple(self.pull(item.name, item.version, target).archive for item in entries)

    def push(self, entry: Entry, model_store: Path, progress: Progress | None = None) -> Transfer:
        """Publish an archive of a model store; a published version never changes.

        The blob is stored before the index names it, so every archive in the index can be fetched.
        """
        self.storage.require_writable()
        mar.verify(entry, model_store)
        archive, path = PublishedArchive.of(entry), model_store / entry.file
        snapshot = self.snapshot()
        self._require_key(snapshot)
        snapshot.catalog.add(archive)  # fail before the upload
        published = snapshot.catalog.find(archive.name, archive.version) is not None
        try:
            if not self._stored(archive, published=published):
                self.storage.put(archive.sha256, path, progress or _ignore)
            catalog = self._change(lambda catalog: catalog.add(archive))
            if self.storage.stat(archive.sha256) is None:  # garbage collection that did not see the new index
                self.storage.put(archive.sha256, path, progress or _ignore)
        except OSError as error:
            raise StoreError(f"{error.filename or path}: {error.strerror}.") from error
        return Transfer(catalog.require(archive.name, archive.version, self.name), fresh=not published)

    def _stored(self, archive: PublishedArchive, *, published: bool) -> bool:
        """Return whether the blob is intact and safe from garbage collection."""
        blob = self.storage.stat(archive.sha256)
        if blob is None or not (published or datetime.now(UTC) - blob.modified < _RECENT):
            return False
        return not self.storage.find_damage(archive.sha256, archive.size)

    def verify(self, model_store: Path | None = None, progress: Progress | None = None) -> Report:
        """Read every blob and compare it with the index; also check a model store if one is given."""
        snapshot = self.snapshot()
        archives = snapshot.catalog.archives
        total, done = sum(item.size for item in archives), 0
        checked = []
        for archive in archives:
            (progress or _ignore)(done, total)
            try:
                problem = self.storage.find_damage(archive.sha256, archive.size)
            except StoreError as error:
                problem = str(error)
            checked.append(ArchiveCheck(self.name, archive.name, archive.version, problem))
            done += archive.size
        (progress or _ignore)(done, total)
        if model_store is not None:
            checked += self._check_model_store(model_store, snapshot.catalog)
        return Report(snapshot.catalog.serial, snapshot.verified_by, tuple(checked))

    def _check_model_store(self, folder: Path, catalog: Catalog) -> list[ArchiveCheck]:
        checked = []
        for entry in model_stores.read(folder).archives:
            problem = ""
            try:
                mar.verify(entry, folder)
            except ArchiveError as error:
                problem = str(error)
            published = catalog.find(entry.name, entry.version)
            if published is not None and published.sha256 != entry.sha256:
                problem = f"sha256 {entry.sha256}, but {self.name} has {published.sha256} for this version."
            checked.append(ArchiveCheck(str(folder), entry.name, entry.version, problem))
        return checked

    def collect_garbage(self, older_than: timedelta, *, dry_run: bool = False) -> Garbage:
        """Delete blobs that no version needs and data of interrupted pushes.

        A push stores its blob before the index names it. So only old blobs count, they are listed before the index is
        read, and their age is checked again before they are deleted: a push that needs one has renewed it.
        """
        self.storage.require_writable()
        limit = datetime.now(UTC) - older_than
        old = [blob for blob in self.storage.blobs() if blob.modified <= limit]
        uploads = tuple(item for item in self.storage.unfinished_uploads() if item.started <= limit)
        snapshot = self.snapshot()
        if snapshot.stored is None and old:
            raise StoreError(
                f"{self.name}: {len(old)} blobs but no index, so all of them would be deleted. Nothing was deleted; "
                "push the archives again, or delete the folder yourself."
            )
        needed = {item.sha256 for item in snapshot.catalog.archives}
        garbage = [blob for blob in old if blob.sha256 not in needed]
        if not dry_run:
            garbage = [blob for blob in garbage if self._delete(blob, limit)]
            for upload in uploads:
                self.storage.discard(upload)
        return Garbage(tuple(garbage), uploads)

    def _delete(self, blob: Blob, limit: datetime) -> bool:
        current = self.storage.stat(blob.sha256)
        if current is None or current.modified > limit:
            return False
        self.storage.delete(blob.sha256)
        return True

    def sign(self, *, accept_unsigned: bool = False) -> Catalog:
        """Sign the index with the signing key, for the first time or to replace a key."""
        if self.keys.signer is None:
            raise StoreError("--signing-key is empty; create keys with 'radserve store keygen FILE'.")
        return self._change(Catalog.next_serial, accept_unsigned=accept_unsigned)

    def _require_key(self, snapshot: IndexSnapshot) -> None:
        """Reject unsigned changes of a signed index, which readers with a public key would reject."""
        if snapshot.key_ids and self.keys.signer is None:
            raise StoreError(
                f"{self.name}: the index is signed (key {snapshot.key_ids[0][:16]}), so a push needs --signing-key "
                "or RADSERVE_STORE_SIGNING_KEY."
            )

    def _change(self, change: Callable[[Catalog], Catalog], *, accept_unsigned: bool = False) -> Catalog:
        """Change the index, again if another process changed it in between; return the result."""
        self.storage.require_writable()
        conflicts = (IndexConflictError, InterruptedTransferError)
        for attempt in stamina.retry_context(on=conflicts, attempts=_WRITE_ATTEMPTS, timeout=None, wait_max=2):
            with attempt:
                before = self.snapshot(accept_unsigned=accept_unsigned)
                self._require_key(before)
                after = change(before.catalog)
                if after != before.catalog:
                    data = signature.seal(after.model_dump_json().encode(), self.keys.signer)
                    self.storage.write_index(data, before.stored.version if before.stored else None)
        return after


def open_store(url: str, *, signing_key: KeySource = None, public_keys: KeySource = None) -> Store:
    """Open an archive store: a folder (path or `file://`), `s3://BUCKET/PREFIX`, or `https://HOST/PATH` (read-only).

    Does not connect yet. Keys are paths of PEM files (Ed25519), or `env:NAME`. The signing key signs what is pushed,
    and its public key is trusted; one of the public keys must have signed the index.
    """
    return Store(backends.open_storage(str(url)), KeyRing.load(signing_key, public_keys))


def _ignore(_done: int, _total: int) -> None:
    pass
