"""Quarantine of archives that were rolled back: they are served only where their version is named.

It is part of the deployment state, and marked in the model store's index for servers with another state.
"""

import errno
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from radserve.build import model_store
from radserve.errors import ArchiveError
from radserve.torchserve.registry import Pair
from radserve.versions.stored_state import QuarantineEntry, State

logger = logging.getLogger(__name__)

_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


def read(state: State, store: Path) -> Mapping[Pair, QuarantineEntry]:
    """Return the archives of a model store that are in quarantine."""
    reasons = {item.sha256: item.reason for item in state.quarantine}
    try:
        archives = model_store.read(store).archives
    except (ArchiveError, OSError):  # reported where an archive is needed
        return {}
    found = ((archive, archive.quarantine or reasons.get(archive.sha256)) for archive in archives)
    return {
        (archive.name, archive.version): QuarantineEntry.of(archive, reason)
        for archive, reason in found
        if reason is not None
    }


def mark(state: State, store: Path, name: str, added: Collection[str], lifted: Collection[str]) -> None:
    """Mark archives of a model, by their digest, in the index, and lift the marks of some versions.

    What the state does not have in quarantine is not marked, and what it has is not lifted. Earlier marks are left
    alone: another server may have lifted them.

    Raises ArchiveError or OSError, unless the store is read-only.
    """
    reasons = {
        item.sha256: item.reason
        for item in state.quarantine
        if item.name == name and (item.sha256 in added or item.version in lifted)
    }
    try:
        model_store.quarantine(store, name, reasons, lifted)
    except (ArchiveError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _READ_ONLY:
            raise
        logger.warning("%s: read-only, so only servers with this state know the quarantine of %s", store, name)
