"""A blob's way into a file: gone on with where it stopped, also by the next process, and right when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from radserve.build import model_store
from radserve.errors import CorruptDataError, InterruptedTransferError, StoreError
from radserve.store import repeat
from radserve.store.backend import Backend, Progress
from radserve.store.index import Published


def download(backend: Backend, wanted: Published, file: BinaryIO, path: Path, progress: Progress) -> None:
    """Bring a file to what a store lists; what it holds already is taken for the beginning.

    What turns out wrong is fetched once more from its beginning: it may have been spoilt on the way.

    Parameters
    ----------
    file
        Opened at `path` for reading and writing. It is emptied when what came was wrong.

    Raises
    ------
    BlobMissing, BrokenOff, Corrupt
        If that was in vain.
    """
    try:
        _once(backend, wanted, file, path, progress)
    except CorruptDataError:
        file.truncate(0)
        try:
            _once(backend, wanted, file, path, progress)
        except CorruptDataError as error:
            file.truncate(0)
            raise CorruptDataError(
                f"{backend.name}: {wanted.title} is not what the index says, twice in a row: {error} "
                "Nothing of it was kept. Push it again from where it was built, which replaces the wrong bytes."
            ) from error


def _once(backend: Backend, wanted: Published, file: BinaryIO, path: Path, progress: Progress) -> None:
    _fill(backend, wanted, file, progress)
    found = model_store.sha256(path)
    if found != wanted.sha256:
        raise CorruptDataError(f"it has sha256 {found} instead of {wanted.sha256}.")


def _fill(backend: Backend, wanted: Published, file: BinaryIO, progress: Progress) -> None:
    tag, failures = None, 0
    start = file.seek(0, 2)
    if start > wanted.size:
        start = file.truncate(0)
    progress(start, wanted.size)
    while start < wanted.size:
        try:
            tag = _more(backend, wanted, file, tag, progress)
            problem = InterruptedTransferError(f"{backend.name}: {wanted.title}: the transfer ended too soon.")
        except InterruptedTransferError as error:
            problem = error
        file.flush()
        end = file.seek(0, 2)
        if end < wanted.size:
            failures = 1 if end > start else failures + 1
            if failures == repeat.ATTEMPTS:
                raise StoreError(f"{problem} Ask again: what has come is kept, and gone on with.") from problem
            repeat.pause(failures)
        start = end


def _more(backend: Backend, wanted: Published, file: BinaryIO, tag: str | None, progress: Progress) -> str | None:
    """Append what comes in one go, and return its tag."""
    done = file.seek(0, 2)
    with backend.open(wanted.sha256, done, tag) as coming:
        if coming.size != wanted.size:
            raise CorruptDataError(f"it has {coming.size} bytes instead of {wanted.size}.")
        if coming.start != done:
            done = file.seek(file.truncate(coming.start))
        for chunk in coming.chunks:
            file.write(chunk)
            done += len(chunk)
            if done > wanted.size:
                raise CorruptDataError(f"it has more than {wanted.size} bytes.")
            progress(done, wanted.size)
        return coming.tag
