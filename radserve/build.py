"""From a recipe's folder to an archive in the model store."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import handlers
from handlers import recipe
from handlers.recipe import Recipe
from radserve import archive
from radserve import index as store_index
from radserve.errors import BuildError
from radserve.index import Entry

_CARRIED: Final = ("archive.yaml", "model-config.yaml", "metrics.json", "CARD.md")
"""Files of a recipe's folder that travel in the archive as they are, where they exist."""


@dataclass(frozen=True)
class Source:
    """A recipe and the folder that it stands in."""

    folder: Path
    recipe: Recipe

    @property
    def weights(self) -> Path:
        """Path of the weights."""
        return self.folder / self.recipe.weights.file


def find(archives: Path, names: Iterable[str] = ()) -> list[Source]:
    """Read the recipes of the given models, or of all.

    Raises
    ------
    RecipeError
        If one of them is wrong or missing.
    """
    wanted = list(names) or sorted(path.parent.name for path in archives.glob("*/archive.yaml"))
    if not wanted:
        raise BuildError(f"{archives}: holds no recipe (NAME/archive.yaml).")
    return [_source(archives / name) for name in wanted]


def _source(folder: Path) -> Source:
    source = Source(folder, recipe.load(folder / "archive.yaml"))
    if source.recipe.name != folder.name:
        raise BuildError(f"{folder}: its recipe is named {source.recipe.name!r}; folder and name must agree.")
    return source


def is_current(source: Source, store: Path) -> bool:
    """Whether the store holds the archive that this source gives."""
    entry = store_index.read(store).find(source.recipe.name, source.recipe.version)
    return entry is not None and entry.inputs == digest(source) and (store / entry.file).is_file()


def digest(source: Source) -> str:
    """Hash everything that an archive is made from: recipe, weights, code and the torch that exports."""
    files = [source.weights, source.folder / source.recipe.sample]
    files += [source.folder / name for name in _CARRIED]
    files += [*_sources("handlers"), *_sources("training.networks")]
    total = hashlib.sha256(_torch_version().encode())
    for path in files:
        if path.exists():
            total.update(f"{path.name} {store_index.sha256(path)}\n".encode())
    return total.hexdigest()


def _torch_version() -> str:
    return metadata.version("torch")


def _sources(package: str) -> list[Path]:
    """List the modules of a package without importing it: its imports take longer than the question."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return sorted(Path(spec.origin).parent.rglob("*.py"))


def build(source: Source, store: Path) -> Entry:
    """Export, verify and pack one model, and enter it into the store's index.

    Raises
    ------
    BuildError, ProgramError
        Naming what does not fit.
    """
    store.mkdir(parents=True, exist_ok=True)
    made_from = source.recipe
    with tempfile.TemporaryDirectory(prefix=".build-", dir=store) as scratch:
        stage = Path(scratch) / "stage"
        _stage(source, stage)
        packed = Path(scratch) / "packed.mar"
        archive.pack(stage, made_from, packed)
        entry = Entry(
            name=made_from.name,
            version=made_from.version,
            file=f"{made_from.name}-{made_from.version}.mar",
            sha256=store_index.sha256(packed),
            size=packed.stat().st_size,
            inputs=digest(source),
        )
        archive.verify(entry.model_copy(update={"file": packed.name}), packed.parent)
        os.replace(packed, store / entry.file)  # noqa: PTH105 - atomic, see radserve.index.write
    store_index.write(store, store_index.read(store).put(entry))
    return entry


def _stage(source: Source, stage: Path) -> None:
    package = Path(handlers.__file__).parent
    shutil.copytree(package, stage / "handlers", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name in (*_CARRIED, source.recipe.sample):
        if (source.folder / name).exists():
            shutil.copyfile(source.folder / name, stage / name)
    for name in ("model-config.yaml", source.recipe.sample):
        if not (stage / name).exists():
            raise BuildError(f"{source.folder / name}: missing; every archive needs it.")
    _export(source, stage)


def _export(source: Source, stage: Path) -> None:
    from radserve import network
    from radserve.export import export

    spec = source.recipe.input
    loaded = network.load(source.recipe, source.weights)
    export(loaded, (spec.channels, spec.height, spec.width), stage / "program.pt2")
    (stage / "sample.json").write_text(answer_sample(stage, source.recipe), encoding="utf-8")


def answer_sample(folder: Path, made_from: Recipe) -> str:
    """Answer the sample that lies in an unpacked archive, as the text of its sample.json.

    Raises
    ------
    BuildError
        If it is refused.
    """
    from handlers.decision import decide
    from handlers.errors import RequestError
    from handlers.pipeline import Pipeline
    from handlers.program import Program

    pipeline = Pipeline(made_from, Program(folder / "program.pt2"))
    (result,) = pipeline([(folder / made_from.sample).read_bytes()])
    if isinstance(result, RequestError):
        raise BuildError(f"{made_from.name}: its sample {made_from.sample} is refused: {result}")
    decision = decide(result.outputs["logits"], made_from)
    # Four digits: what a processor adds in the sixth must not change the archive's bytes.
    shares = {label: round(value, 4) for label, value in decision.probabilities.items()}
    return json.dumps({"label": decision.label, "probabilities": shares}, indent=2) + "\n"
