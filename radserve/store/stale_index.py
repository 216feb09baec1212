"""Protection against rollback: a model store rejects an index that is older than the last one it used.

A signature does not protect against this: an old index was signed as well.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field, ValidationError

from handlers.recipe import Sha256
from radserve.build import model_store
from radserve.errors import StoreError
from radserve.files import write_atomically

FILE: Final = ".archive-stores.json"


class IndexState(BaseModel, extra="forbid", frozen=True):
    """Serial and payload digest of an index."""

    serial: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @classmethod
    def of(cls, serial: int, payload: bytes) -> "IndexState":
        """Return the state of an index with this payload."""
        return cls(serial=serial, sha256=hashlib.sha256(payload).hexdigest())


class _History(BaseModel, extra="forbid", frozen=True):
    stores: dict[str, IndexState] = {}


def check(target: Path, store: str, state: IndexState, *, accept_older: bool = False) -> None:
    """Record an index; reject an older one than the last (unless `accept_older`) or another of the same serial."""
    if _read(target / FILE).stores.get(store) == state:
        return  # nothing to record, so the folder may be read-only
    with model_store.locked(target):
        history = _read(target / FILE)
        last = history.stores.get(store)
        if last is not None and last != state and state.serial <= last.serial and not accept_older:
            raise StoreError(
                f"{store}: its index has serial {state.serial}, but {target} already used serial {last.serial}. Either "
                "an old index was replayed, or the store was restored from a backup; only then add --accept-older."
            )
        record = _History(stores=history.stores | {store: state})
        write_atomically(target / FILE, record.model_dump_json(indent=2) + "\n")


def _read(path: Path) -> _History:
    if not path.exists():
        return _History()
    try:
        return _History.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreError(f"{path}: invalid. Delete it if you trust the store's current index.") from error
