"""What a server is asked to serve: archives that were verified before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handlers.recipe import Recipe
from radserve.build import mar
from radserve.build import model_store as store_index
from radserve.build.model_store import Entry, Index
from radserve.errors import ServeError


@dataclass(frozen=True)
class VerifiedModel:
    """An archive: its entry, its recipe, its sample and the answer to that."""

    entry: Entry
    recipe: Recipe
    sample: bytes
    answer: dict[str, object]

    @property
    def path(self) -> str:
        """Path of its predictions."""
        return f"/predictions/{self.entry.name}/{self.entry.version}"


def select(store: Path, wanted: Sequence[str]) -> list[VerifiedModel]:
    """Verify the archives to serve.

    Parameters
    ----------
    wanted
        Names, or NAME/VERSION; all of the store if empty.

    Raises
    ------
    ArchiveError, ServeError
        Naming the first that is not right.
    """
    index = store_index.read(store)
    entries = [_find(index, store, name) for name in wanted] or list(index.archives)
    if not entries:
        raise ServeError(f"{store}: holds no archive; build one with 'radserve build'.")
    return [_verified(entry, store) for entry in entries]


def _verified(entry: Entry, store: Path) -> VerifiedModel:
    recipe = mar.verify(entry, store)
    return VerifiedModel(entry, recipe, *mar.sample(store / entry.file, recipe))


def _find(index: Index, store: Path, wanted: str) -> Entry:
    name, _, version = wanted.partition("/")
    entry = index.find(name, version or None)
    if entry is None:
        known = ", ".join(f"{item.name}/{item.version}" for item in index.archives) or "nothing"
        raise ServeError(f"{store}: holds no {wanted!r}, but {known}; build it with 'radserve build {name}'.")
    return entry
