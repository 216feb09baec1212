"""Quarantine of archives that were rolled back: they are served only where their version is named.

It is part of the deployment state, and of the model store's index, which all servers with this store share. It ends
only by a release, which the model store records: a new index ends nothing.
"""

import asyncio
import errno
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from radserve.build import model_store
from radserve.errors import ArchiveError
from radserve.torchserve.registry import Pair
from radserve.versions.stored_state import QuarantineEntry, State, StateFolder

logger = logging.getLogger(__name__)

_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


def read(state: State, store: Path) -> Mapping[Pair, QuarantineEntry]:
    """Return the archives of a model store that are in quarantine."""
    reasons = state.in_quarantine(model_store.released(store))
    try:
        archives = model_store.read(store).archives
    except (ArchiveError, OSError):  # reported where an archive is needed
        return {}
    reasoned = ((archive, archive.quarantine or reasons.get(archive.sha256)) for archive in archives)
    return {
        (archive.name, archive.version): QuarantineEntry.of(archive, reason)
        for archive, reason in reasoned
        if reason is not None
    }


class QuarantineMarks:
    """The marks in the model store's index: those that the state in a folder lacks there, and those to lift."""

    def __init__(self, folder: StateFolder, store: Path) -> None:
        self._folder = folder
        self._store = store
        self._lifted: set[Pair] = set()
        self._writing = asyncio.Lock()
        self._read_only = False

    def lift(self, pairs: Iterable[Pair]) -> None:
        """Let the next `write` lift the marks of versions, unless the state has them in quarantine."""
        self._lifted.update(pairs)

    async def write(self) -> None:
        """Bring the index up to date; raises ArchiveError or OSError if that fails, unless the store is read-only."""
        async with self._writing:  # an earlier state must not be written after a later one
            names = {item.name for item in self._folder.state.unmarked} | {name for name, _ in self._lifted}
            for name in names:
                await self._write(name)

    async def _write(self, name: str) -> None:
        lifted = {pair for pair in self._lifted if pair[0] == name}
        self._lifted -= lifted
        try:
            versions = {version for _, version in lifted}
            marked = await asyncio.to_thread(_mark, self._folder.state, self._store, name, versions)
        except BaseException:
            self._lifted |= lifted
            raise
        if marked is not None:
            self._folder.state = self._folder.state.with_marks(marked)
        elif not self._read_only:
            logger.warning("%s: read-only, so only servers with this state know what is in quarantine", self._store)
        self._read_only = marked is None


def _mark(state: State, store: Path, name: str, lifted: Collection[str]) -> Collection[str] | None:
    """Mark the archives of a model in the index as the state has them, and lift the marks of some versions.

    An archive that was marked before is left alone, because another server may have lifted the mark.

    Return the digests that the index shows, or None if the store is read-only. Raises ArchiveError or OSError if it
    cannot be written for another reason.
    """
    entries = (item for item in state.quarantine if item.name == name)
    reasons = {item.sha256: item.reason for item in entries if not item.marked or item.version in lifted}
    try:
        index = model_store.quarantine(store, name, reasons, lifted)
    except (ArchiveError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _READ_ONLY:
            raise
        return None
    return {item.sha256 for item in index.archives if item.sha256 in reasons}
