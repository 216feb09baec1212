"""Which index a model store saw last of each archive store: an older one that is shown later is a replay.

The signature alone does not tell: an old index, in which a version stands that was withdrawn by a newer one, or lacks
it, was signed as well.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handlers.recipe import Sha256
from radserve.build import model_store
from radserve.errors import StoreError

FILE: Final = ".archive-stores.json"


class Seen(BaseModel):
    """The serial of an index and the sum of its payload."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    serial: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @classmethod
    def of(cls, serial: int, payload: bytes) -> Seen:
        """Return what is remembered of an index."""
        return cls(serial=serial, sha256=hashlib.sha256(payload).hexdigest())


class _Memory(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    stores: dict[str, Seen] = {}


def check(target: Path, store: str, shown: Seen, *, accept_older: bool = False) -> None:
    """Refuse an index that is older than the last one, or another one of the same serial; then remember it.

    Parameters
    ----------
    target
        The model store, in whose folder it is remembered.
    accept_older
        Remember it also if it is older: the store was restored from a backup.

    Raises
    ------
    StoreError
        If it is refused, or what is remembered cannot be read.
    """
    if _read(target / FILE).stores.get(store) == shown:
        return  # nothing to remember, so the folder may be read-only
    with model_store.locked(target):
        known = _read(target / FILE)
        last = known.stores.get(store)
        if last is not None and last != shown and shown.serial <= last.serial and not accept_older:
            raise StoreError(
                f"{store}: its index has serial {shown.serial}, {target} has seen {last.serial}: an old index is shown "
                "again, or the store was restored from a backup. In that case, and only then: --accept-older."
            )
        _write(target / FILE, _Memory(stores=known.stores | {store: shown}))


def _read(path: Path) -> _Memory:
    if not path.exists():
        return _Memory()
    try:
        return _Memory.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreError(f"{path}: cannot be read. Remove it if you trust the store's index as it is now.") from error


def _write(path: Path, known: _Memory) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".index-", delete=False, encoding="utf-8") as file:
        file.write(known.model_dump_json(indent=2) + "\n")
    os.replace(file.name, path)  # noqa: PTH105 - Path.replace hides that it is atomic
