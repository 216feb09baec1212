"""From an archive store into a model store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from radserve.build import mar, model_store
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError, StoreError
from radserve.host.file_lock import exclusive
from radserve.store import rollback_guard
from radserve.store.backend import Progress
from radserve.store.download import download
from radserve.store.index import Published

if TYPE_CHECKING:
    from radserve.store.store import Store


@dataclass(frozen=True)
class Pulled:
    """An archive that a model store holds; `fresh` if it came just now."""

    entry: Entry
    fresh: bool


def pull(
    store: Store, name: str, version: str | None, target: Path, progress: Progress, *, accept_older: bool
) -> Pulled:
    """See `Store.pull`."""
    listing = store.listing()
    wanted = listing.catalog.find(name, version)
    if wanted is None:
        raise StoreError(_unknown(store.name, name, version, listing.catalog.archives))
    try:
        target.mkdir(parents=True, exist_ok=True)
        if listing.signer is not None:
            rollback_guard.check(target, store.name, listing.seen, accept_older=accept_older)
        return _pull(store, wanted, target, progress)
    except OSError as error:
        raise StoreError(f"{error.filename or target}: {error.strerror}.") from error


def _pull(store: Store, wanted: Published, target: Path, progress: Progress) -> Pulled:
    entry = wanted.entry
    if _held(entry, target):
        return Pulled(entry, fresh=False)
    partial = target / f".pull-{entry.sha256}.part"
    # Who pulls the same at the same time waits here, and then finds it done.
    with exclusive(partial) as file:
        if _held(entry, target):
            partial.unlink()
            return Pulled(entry, fresh=False)
        if _right(target / entry.file, entry):  # a pull that was killed before it was entered
            partial.unlink()
            model_store.enter(entry, target, target / entry.file, replace=False)
            return Pulled(entry, fresh=True)
        try:
            download(store.backend, wanted, file, partial, progress)
        except StoreError:
            if partial.stat().st_size == 0:
                partial.unlink()
            raise
        os.fsync(file.fileno())
        try:
            mar.verify(entry.model_copy(update={"file": partial.name}), target)
        except ArchiveError as error:
            partial.unlink()
            raise StoreError(
                f"{store.name}: {wanted.title} came as it was pushed, but is no archive that can be served: {error}"
            ) from error
        model_store.enter(entry, target, partial, replace=False)
    return Pulled(entry, fresh=True)


def _held(entry: Entry, target: Path) -> bool:
    """Whether a model store has an archive already; refuse if it has other bytes under its version."""
    held = model_store.read(target).find(entry.name, entry.version)
    if held is None:
        return False
    if held.sha256 != entry.sha256:
        raise StoreError(
            f"{target}: holds {entry.name} {entry.version} with sha256 {held.sha256}, the store has {entry.sha256}. "
            f"Which one is meant? Pull into another --model-store; or, if this one was built here and is not wanted, "
            f"remove {held.file} and its entry in {model_store.FILE}, and pull again."
        )
    return _right(target / held.file, entry)


def _right(path: Path, entry: Entry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and model_store.sha256(path) == entry.sha256


def _unknown(store: str, name: str, version: str | None, there: tuple[Published, ...]) -> str:
    if not there:
        return f"{store}: holds no archive yet; publish one with 'radserve store push NAME'."
    of_name = [item.version for item in there if item.name == name]
    if of_name:
        return f"{store}: holds {name} as {', '.join(of_name)}, not as {version}."
    return f"{store}: holds no {name!r}, but {', '.join(sorted({item.name for item in there}))}."
