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
from radserve.versions.server_state import State

logger = logging.getLogger(__name__)

_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


def of(state: State, store: Path, name: str) -> Mapping[str, tuple[str, str]]:
    """Return digest and reason of each version of a model that is in quarantine."""
    reasons = {item.sha256: item.reason for item in state.quarantine}
    try:
        archives = model_store.read(store).archives
    except (ArchiveError, OSError):  # reported where an archive is needed
        archives = ()
    return {
        entry.version: (entry.sha256, entry.quarantine or reasons[entry.sha256])
        for entry in archives
        if entry.name == name and (entry.quarantine is not None or entry.sha256 in reasons)
    }


def mark(state: State, store: Path, name: str, lifted: Collection[str]) -> None:
    """Mark the archives of a model in the index, and lift the marks of some versions.

    Raises ArchiveError or OSError, unless the store is read-only.
    """
    reasons = {item.sha256: item.reason for item in state.quarantine if item.name == name}
    try:
        model_store.quarantine(store, name, reasons, lifted)
    except (ArchiveError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _READ_ONLY:
            raise
        logger.warning("%s: read-only, so only servers with this state know the quarantine of %s", store, name)
