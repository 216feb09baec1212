"""From a model store into an archive store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from radserve.build import mar
from radserve.build.model_store import Entry
from radserve.errors import StoreError
from radserve.store.backend import Progress
from radserve.store.index import Catalog, Published, publish

if TYPE_CHECKING:
    from radserve.store.store import Store

_YOUNG: Final = timedelta(hours=1)
"""A blob of this age is not collected while its push goes on; an older one is stored anew, which makes it young."""


@dataclass(frozen=True)
class Pushed:
    """An archive that a store holds; `fresh` if it was published just now."""

    published: Published
    fresh: bool


def push(store: Store, entry: Entry, model_store: Path, progress: Progress) -> Pushed:
    """See `Store.push`."""
    mar.verify(entry, model_store)
    new = publish(entry)
    path = model_store / entry.file
    before = _allowed(store, new)
    try:
        _store(store, new, path, progress, named=before.find(new.name, new.version) is not None)
        after = store.change(lambda catalog: catalog.add(new))
        # Garbage may have been collected by one who did not know the index yet.
        if store.backend.stat(new.sha256) is None:
            store.backend.put(new.sha256, path, progress)
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror}.") from error
    published = after.find(new.name, new.version)
    assert published is not None
    return Pushed(published, fresh=before.find(new.name, new.version) is None)


def _allowed(store: Store, new: Published) -> Catalog:
    """Refuse before anything is sent what would be refused afterwards."""
    listing = store.listing()
    store.require_key(listing)
    listing.catalog.add(new)
    return listing.catalog


def _store(store: Store, new: Published, path: Path, progress: Progress, *, named: bool) -> None:
    """Store the blob, unless it is there and stays there."""
    if store.backend.holds(new.sha256, new.size):
        there = store.backend.stat(new.sha256)
        if named or (there is not None and datetime.now(UTC) - there.modified < _YOUNG):
            return
    store.backend.put(new.sha256, path, progress)
