"""Selection and verification of the archives to serve."""

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
    """A verified archive: index entry, recipe, sample image and the expected prediction for it."""

    entry: Entry
    recipe: Recipe
    sample: bytes
    expected: dict[str, object]

    @property
    def path(self) -> str:
        """URL path of its predictions."""
        return f"/predictions/{self.entry.name}/{self.entry.version}"


def select(store: Path, names: Sequence[str]) -> list[VerifiedModel]:
    """Verify the archives to serve: NAME is its newest version, NAME/VERSION that one; without names, all."""
    index = store_index.read(store)
    entries = [_find(index, store, name) for name in names] or list(index.archives)
    if not entries:
        raise ServeError(f"{store}: the model store is empty; run 'radserve build'.")
    recipes = [(entry, mar.verify(entry, store)) for entry in entries]
    return [VerifiedModel(entry, recipe, *mar.sample(store / entry.file, recipe)) for entry, recipe in recipes]


def _find(index: Index, store: Path, requested: str) -> Entry:
    name, _, version = requested.partition("/")
    entry = index.find(name, version or None)
    if entry is None:
        available = ", ".join(f"{item.name}/{item.version}" for item in index.archives) or "none"
        raise ServeError(
            f"{store}: unknown model {requested!r}. Available: {available}. Build it with 'radserve build {name}'."
        )
    return entry
