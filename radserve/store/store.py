"""An archive store: a signed index and the blobs that it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from radserve.build.model_store import Entry
from radserve.errors import IndexConflictError, StoreError
from radserve.store import envelope, garbage, index, location, repeat
from radserve.store import pull as pulling
from radserve.store import push as pushing
from radserve.store import verify as verifying
from radserve.store.backend import INDEX, Backend, Progress
from radserve.store.garbage import Garbage
from radserve.store.index import Catalog, Published
from radserve.store.pull import Pulled
from radserve.store.push import Pushed
from radserve.store.rollback_guard import Seen
from radserve.store.signing import Ring, Words
from radserve.store.verify import Report

_ATTEMPTS: Final = 20
"""To write an index that others write as well: each that fails is one of theirs that did not."""


@dataclass(frozen=True)
class Listing:
    """The index of a store at one time.

    Attributes
    ----------
    tag
        Of its file; None where there is none yet.
    claimed, signer
        See `envelope.Opened`.
    seen
        What a model store remembers of it.
    """

    catalog: Catalog
    tag: str | None
    claimed: tuple[str, ...]
    signer: str | None
    seen: Seen


class Store:
    """An archive store; see `open_store`."""

    def __init__(self, backend: Backend, ring: Ring) -> None:
        self.backend = backend
        self.ring = ring

    @property
    def name(self) -> str:
        """Its URL, as messages show it."""
        return self.backend.name

    def listing(self, *, accept_unsigned: bool = False) -> Listing:
        """Read the index, and check its signature if a public key is configured.

        Raises
        ------
        StoreError
            If it cannot be read or must not be trusted.
        """
        document = self.backend.read_index()
        if document is None:
            return Listing(Catalog(), None, (), None, Seen.of(0, b""))
        where = f"{self.name}/{INDEX}"
        opened = envelope.unseal(document.data, (), where)
        if not (accept_unsigned and not opened.claimed):
            opened = envelope.unseal(document.data, self.ring.trusted, where)
        read = index.parse(opened.payload, where)
        return Listing(read, document.tag, opened.claimed, opened.signer, Seen.of(read.serial, opened.payload))

    def entries(self) -> tuple[Published, ...]:
        """Return all archives, by name and version."""
        return self.listing().catalog.archives

    def pull(
        self,
        name: str,
        version: str | None,
        target: Path,
        progress: Progress | None = None,
        *,
        accept_older: bool = False,
    ) -> Entry:
        """Bring an archive into a model store; nothing happens if it is there already.

        Parameters
        ----------
        version
            The newest if None.
        target
            Folder of the model store.
        accept_older
            Also from an index that is older than one that the model store has seen.

        Raises
        ------
        StoreError, ArchiveError
            Naming what is wrong; nothing is then left under the archive's name.
        """
        return self.fetch(name, version, target, progress, accept_older=accept_older).entry

    def fetch(
        self,
        name: str,
        version: str | None,
        target: Path,
        progress: Progress | None = None,
        *,
        accept_older: bool = False,
    ) -> Pulled:
        """Do as `pull` does, and say whether it was there already."""
        return pulling.pull(self, name, version, target, progress or _silent, accept_older=accept_older)

    def push(self, entry: Entry, model_store: Path, progress: Progress | None = None) -> Pushed:
        """Publish an archive of a model store, for ever.

        Raises
        ------
        StoreError, ArchiveError
            If the archive is not right, its version stands for other bytes, or the store cannot be written.
        """
        return pushing.push(self, entry, model_store, progress or _silent)

    def verify(self, model_store: Path | None = None, progress: Progress | None = None) -> Report:
        """Read everything that the store lists, and hold it against the index.

        Parameters
        ----------
        model_store
            Whose archives are verified as well, where one is named.
        """
        return verifying.verify(self, model_store, progress or _silent)

    def collect(self, grace: timedelta, *, dry_run: bool = False) -> Garbage:
        """Remove what no archive of the index needs and is older than the grace."""
        return garbage.collect(self, grace, dry_run=dry_run)

    def sign(self, *, accept_unsigned: bool = False) -> Catalog:
        """Sign the index as it is with the signing key: the first time, or with the next key.

        Raises
        ------
        StoreError
            If there is no key, no index, or its present signature is not trusted.
        """
        if self.ring.signing is None:
            raise StoreError("--signing-key has no value; make keys with 'radserve store keygen FILE'.")
        return self.change(Catalog.again, accept_unsigned=accept_unsigned)

    def require_key(self, listing: Listing) -> None:
        """Refuse to change a signed index without a key: nobody who checks it could read it any more.

        Raises
        ------
        StoreError
            If there is none.
        """
        if listing.claimed and self.ring.signing is None:
            raise StoreError(
                f"{self.name}: is signed (key {listing.claimed[0][:16]}), so a push must be: --signing-key FILE, or "
                "RADSERVE_STORE_SIGNING_KEY."
            )

    def change(self, change: Callable[[Catalog], Catalog], *, accept_unsigned: bool = False) -> Catalog:
        """Change the index, again if another one did so in between; return it as it then is.

        Raises
        ------
        StoreError
            If it must not be changed, or others change it without end.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            before = self.listing(accept_unsigned=accept_unsigned)
            self.require_key(before)
            after = change(before.catalog)
            if after == before.catalog:
                return after
            sealed = envelope.seal(after.model_dump_json().encode(), self.ring.signing)
            try:
                self.backend.write_index(sealed, before.tag)
            except IndexConflictError:
                repeat.pause(min(attempt, 4))
            else:
                return after
        raise StoreError(f"{self.name}: others change its index all the time; try again later.")


def open_store(url: str, *, signing_key: Words = None, public_keys: Words = None) -> Store:
    """Open an archive store; nothing is asked of it yet.

    Parameters
    ----------
    url
        A folder (a path or file://), s3://BUCKET/PREFIX, or https://HOST/PATH, which can only be read.
    signing_key
        Path of a private key (PEM, Ed25519), or env:NAME: signs what is pushed, and its public half is trusted.
    public_keys
        Path, or env:NAME, of one or more public keys: the index is believed only if one of them signed it.

    Raises
    ------
    StoreError
        If the URL or a key cannot be understood.
    """
    return Store(location.backend(str(url)), Ring.open(signing_key, public_keys))


def _silent(_done: int, _total: int) -> None:
    pass
