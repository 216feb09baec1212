"""Download of a published archive into a model store."""

import os
from pathlib import Path
from typing import BinaryIO, Final

import stamina
from filelock import FileLock

from radserve.build import mar, model_store
from radserve.build.model_store import Entry
from radserve.errors import ArchiveError, CorruptDataError, InterruptedTransferError, StoreError
from radserve.store.index import PublishedArchive
from radserve.store.object_storage import Progress, Storage

_ATTEMPTS: Final = 3  # each one continues where the last one ended and has the retries of `object_storage.RETRIES`


def download(storage: Storage, archive: PublishedArchive, target: Path, progress: Progress) -> bool:
    """Download an archive unless the model store holds it, add it to the index, and return whether the store changed.

    If the archive cannot be fetched or has other content, no file with its name is created.
    """
    entry = archive.entry
    if _holds(target, entry):
        return False
    lock, partial = target / f".{entry.sha256}.lock", target / f".pull-{entry.sha256}.part"
    with FileLock(lock):  # another process may pull the same archive
        try:
            if _holds(target, entry):
                partial.unlink(missing_ok=True)
                return False
            if _matches(target / entry.file, entry):  # a pull was killed before it changed the index
                partial.unlink(missing_ok=True)
                model_store.enter(entry, target, target / entry.file, replace=False)
                return True
            _fetch(storage, archive, partial, progress)
            try:
                mar.verify(entry.model_copy(update={"file": partial.name}), target)
            except ArchiveError as error:
                partial.unlink()
                raise StoreError(f"{storage.name}: {archive.title} was published in a broken state: {error}") from error
            partial.chmod(0o644)
            model_store.enter(entry, target, partial, replace=False)
            return True
        finally:
            lock.unlink(missing_ok=True)


def _fetch(storage: Storage, archive: PublishedArchive, partial: Path, progress: Progress) -> None:
    """Complete a partial file; start again once if its content is wrong, since it may have changed in transit."""
    for last in (False, True):
        try:
            _complete(storage, archive, partial, progress)
            if (digest := model_store.sha256(partial)) != archive.sha256:
                raise CorruptDataError(f"sha256 {digest} instead of {archive.sha256}.")
        except CorruptDataError as error:
            partial.unlink()
            if last:
                raise CorruptDataError(
                    f"{storage.name}: {archive.title} does not match the index, also in a second attempt: {error} "
                    "Nothing was kept. Push it again from the machine that built it to replace the stored bytes."
                ) from error
        except StoreError:
            if partial.stat().st_size == 0:
                partial.unlink()
            raise
        else:
            return


def _complete(storage: Storage, archive: PublishedArchive, partial: Path, progress: Progress) -> None:
    with partial.open("ab") as file:
        try:
            for attempt in stamina.retry_context(on=InterruptedTransferError, attempts=_ATTEMPTS, timeout=None):
                with attempt:
                    _append(storage, archive, file, progress)
        except InterruptedTransferError as error:
            raise StoreError(f"{error} Run the command again; it continues from the bytes received so far.") from error
        file.flush()
        os.fsync(file.fileno())


def _append(storage: Storage, archive: PublishedArchive, file: BinaryIO, progress: Progress) -> None:
    done = file.seek(0, os.SEEK_END)
    if done > archive.size:
        done = file.truncate(0)
    progress(done, archive.size)
    if done == archive.size:
        return
    transfer = storage.read(archive.sha256, done)
    if transfer.size != archive.size:
        raise CorruptDataError(f"{transfer.size} bytes instead of {archive.size}.")
    if transfer.start != done:
        done = file.truncate(transfer.start)
    for chunk in transfer.chunks:
        file.write(chunk)
        done += len(chunk)
        progress(done, archive.size)
    if done != archive.size:
        raise InterruptedTransferError(f"{storage.name}: {archive.title}: the transfer ended early.")


def _holds(target: Path, entry: Entry) -> bool:
    """Return whether a model store has an intact copy of an archive; reject other content under its version."""
    existing = model_store.read(target).find(entry.name, entry.version)
    if existing is None:
        return False
    if existing.sha256 != entry.sha256:
        raise StoreError(
            f"{target}: holds {entry.name} {entry.version} with sha256 {existing.sha256}, but the store has "
            f"{entry.sha256}. Pull into another --model-store, or delete {existing.file} and its entry in "
            f"{model_store.FILE}, and pull again."
        )
    return _matches(target / existing.file, entry)


def _matches(path: Path, entry: Entry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and model_store.sha256(path) == entry.sha256
