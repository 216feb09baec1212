"""Whether a store holds what its index says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from radserve.build import mar
from radserve.build import model_store as index
from radserve.errors import ArchiveError, InterruptedTransferError, StoreError
from radserve.store import repeat
from radserve.store.backend import Backend, Progress
from radserve.store.index import Catalog, Published

if TYPE_CHECKING:
    from radserve.store.store import Store


@dataclass(frozen=True)
class Checked:
    """One archive; `problem` is empty if it is right."""

    where: str
    name: str
    version: str
    problem: str


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes
    ----------
    signer
        Id of the key that signed the index; None if no public key is configured.
    """

    serial: int
    signer: str | None
    checked: tuple[Checked, ...]

    @property
    def wrong(self) -> tuple[Checked, ...]:
        """Archives that are not as listed."""
        return tuple(item for item in self.checked if item.problem)


def verify(store: Store, model_store: Path | None, progress: Progress) -> Report:
    """See `Store.verify`; it goes on after what is wrong."""
    listing = store.listing()
    archives = listing.catalog.archives
    whole, done = sum(item.size for item in archives), 0
    checked = []
    for item in archives:
        progress(done, whole)
        checked.append(Checked(store.name, item.name, item.version, _problem(store.backend, item)))
        done += item.size
    progress(done, whole)
    if model_store is not None:
        checked += _model_store(model_store, listing.catalog, store.name)
    return Report(listing.catalog.serial, listing.signer, tuple(checked))


def _problem(backend: Backend, item: Published) -> str:
    try:
        return repeat.until_whole(lambda: _read(backend, item))
    except StoreError as error:
        return str(error)


def _read(backend: Backend, item: Published) -> str:
    """Read a blob and say what is wrong with it."""
    total, count = hashlib.sha256(), 0
    with backend.open(item.sha256, 0, None) as coming:
        if coming.size != item.size:
            return f"has {coming.size} bytes, the index says {item.size}; push it again."
        for chunk in coming.chunks:
            total.update(chunk)
            count += len(chunk)
    if count < item.size:
        raise InterruptedTransferError(f"{backend.name}: {item.title}: the transfer ended too soon.")
    if total.hexdigest() != item.sha256:
        return f"has sha256 {total.hexdigest()}, the index says {item.sha256}; push it again."
    return ""


def _model_store(folder: Path, catalog: Catalog, name: str) -> list[Checked]:
    checked = []
    for entry in index.read(folder).archives:
        problem = ""
        published = catalog.find(entry.name, entry.version)
        try:
            mar.verify(entry, folder)
        except ArchiveError as error:
            problem = str(error)
        if published is not None and published.sha256 != entry.sha256:
            problem = f"has sha256 {entry.sha256}, {name} has {published.sha256} under this version."
        checked.append(Checked(str(folder), entry.name, entry.version, problem))
    return checked
