"""Build sources: a model's folder with its recipe and weights."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from handlers import recipe as recipes
from handlers.recipe import Name, Recipe
from radserve.build.model_store import UNTRAINED
from radserve.errors import BuildError

_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


@dataclass(frozen=True)
class Source:
    """A model's folder and recipe; `untrained` to build it with placeholder weights."""

    folder: Path
    recipe: Recipe
    untrained: bool = False

    @property
    def weights(self) -> Path:
        """Path of the weights."""
        return self.folder / self.recipe.weights.file

    @property
    def lacks_weights(self) -> bool:
        """Whether the weights are absent and the recipe declares that they are not shipped."""
        weights = self.recipe.weights
        return (weights.sha256 is None or weights.source is not None) and not self.weights.is_file()

    @property
    def version(self) -> str:
        """Version of the resulting archive."""
        return UNTRAINED if self.untrained else self.recipe.version

    @property
    def weights_hint(self) -> str:
        """One line that says how to get the weights."""
        name = self.recipe.name
        command = self.recipe.weights.source or (
            f"radserve train {name} --data DIR --install, or radserve import {name} CHECKPOINT --install"
        )
        return f"To get them: {command.rstrip('.')}."


def find_sources(archives: Path, names: Iterable[str] = (), *, untrained: bool = False) -> list[Source]:
    """Read the recipes of the models, or of all; `untrained` gives those that lack weights placeholder weights."""
    selected = list(names) or sorted(path.parent.name for path in archives.glob("*/archive.yaml"))
    if not selected:
        raise BuildError(f"{archives}: contains no recipe (NAME/archive.yaml).")
    sources = [_read(archives / name) for name in selected]
    return [replace(source, untrained=untrained and source.lacks_weights) for source in sources]


def new_folder(archives: Path, name: str) -> Path:
    """Return the folder of a new model; `BuildError` if the name is invalid or the folder exists."""
    try:
        _NAME.validate_python(name)
    except ValidationError:
        raise BuildError(
            f"{name!r}: invalid name; use small letters, digits and single hyphens, as 'knee-x-ray'."
        ) from None
    folder = archives / name
    if folder.exists():
        raise BuildError(f"{folder}: already exists. Choose another name, or delete the folder.")
    return folder


def _read(folder: Path) -> Source:
    source = Source(folder, recipes.load(folder / "archive.yaml"))
    if source.recipe.name != folder.name:
        raise BuildError(f"{folder}: its recipe is named {source.recipe.name!r}; rename the folder or the recipe.")
    return source
