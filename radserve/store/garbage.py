"""Removal of what no archive of a store needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from radserve.errors import StoreError
from radserve.store.backend import Blob, Leftover

if TYPE_CHECKING:
    from radserve.store.store import Store


@dataclass(frozen=True)
class Garbage:
    """What was removed, or would be."""

    blobs: tuple[Blob, ...]
    leftovers: tuple[Leftover, ...]


def collect(store: Store, grace: timedelta, *, dry_run: bool) -> Garbage:
    """See `Store.collect`.

    A push stores its blob before it is listed. So blobs are looked at before the index is, only old ones count,
    and each is looked at again before it goes: a push that needs it has then made it young.
    """
    backend, limit = store.backend, datetime.now(UTC) - grace
    old = [blob for blob in backend.blobs() if blob.modified <= limit]
    leftovers = tuple(item for item in backend.leftovers() if item.started <= limit)
    listing = store.listing()
    if listing.tag is None and old:
        raise StoreError(
            f"{store.name}: holds {len(old)} blobs, but no index, so nobody knows what is needed. Nothing was removed; "
            "push the archives again, or remove the folder yourself."
        )
    needed = {item.sha256 for item in listing.catalog.archives}
    blobs = tuple(blob for blob in old if blob.sha256 not in needed)
    if not dry_run:
        blobs = tuple(blob for blob in blobs if _remove(store, blob, limit))
        for item in leftovers:
            backend.discard(item)
    return Garbage(blobs, leftovers)


def _remove(store: Store, blob: Blob, limit: datetime) -> bool:
    now = store.backend.stat(blob.sha256)
    if now is None or now.modified > limit:
        return False
    store.backend.delete(blob.sha256)
    return True
