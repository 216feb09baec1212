"""From a recipe's folder to an archive in the model store."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import handlers
from handlers import recipe
from handlers.recipe import Recipe
from radserve.build import mar
from radserve.build import model_store as store_index
from radserve.build.model_store import UNTRAINED, Entry
from radserve.errors import BuildError, MissingWeightsError

if TYPE_CHECKING:
    from handlers.torchserve_handler import TorchServeHandler

_CARRIED: Final = ("archive.yaml", "model-config.yaml", "metrics.json", "CARD.md")
"""Files of a recipe's folder that travel in the archive as they are, where they exist."""
_MAKERS: Final = ("builder", "export", "mar", "model", "placeholder")
"""Modules of this package that decide what is in an archive."""


@dataclass(frozen=True)
class Source:
    """A recipe and the folder that it stands in.

    Attributes
    ----------
    untrained
        Whether it is built with random weights.
    """

    folder: Path
    recipe: Recipe
    untrained: bool = False

    @property
    def weights(self) -> Path:
        """Path of the weights."""
        return self.folder / self.recipe.weights.file

    @property
    def lacks_weights(self) -> bool:
        """Whether the repository does not hold its weights, as the recipe says itself."""
        named = self.recipe.weights
        return (named.sha256 is None or named.source is not None) and not self.weights.is_file()

    @property
    def version(self) -> str:
        """Version of the archive that is built."""
        return UNTRAINED if self.untrained else self.recipe.version


def find(archives: Path, names: Iterable[str] = (), *, untrained: bool = False) -> list[Source]:
    """Read the recipes of the given models, or of all.

    Parameters
    ----------
    untrained
        Whether those that lack weights are to be built with random ones.

    Raises
    ------
    RecipeError
        If one of them is wrong or missing.
    """
    wanted = list(names) or sorted(path.parent.name for path in archives.glob("*/archive.yaml"))
    if not wanted:
        raise BuildError(f"{archives}: holds no recipe (NAME/archive.yaml).")
    found = [_source(archives / name) for name in wanted]
    return [replace(source, untrained=untrained and source.lacks_weights) for source in found]


def _source(folder: Path) -> Source:
    source = Source(folder, recipe.load(folder / "archive.yaml"))
    if source.recipe.name != folder.name:
        raise BuildError(f"{folder}: its recipe is named {source.recipe.name!r}; folder and name must agree.")
    return source


def is_current(source: Source, store: Path) -> bool:
    """Whether the store holds the archive that this source gives."""
    entry = store_index.read(store).find(source.recipe.name, source.version)
    return entry is not None and entry.inputs == digest(source) and (store / entry.file).is_file()


def digest(source: Source) -> str:
    """Hash everything that an archive is made from: recipe, weights, code and the torch that exports."""
    files = [source.weights, source.folder / source.recipe.sample]
    files += [source.folder / name for name in _CARRIED]
    files += [*_sources("handlers"), *_sources("training.networks")]
    files += [Path(__file__).with_name(f"{name}.py") for name in _MAKERS]
    total = hashlib.sha256(f"{_torch_version()} untrained={source.untrained}\n".encode())
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
    NoWeights
        If the repository does not hold them and the source is not to be built untrained.
    BuildError, ProgramError
        Naming what does not fit.
    """
    _check_weights(source)
    store.mkdir(parents=True, exist_ok=True)
    _check_store(source, store)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=store) as scratch:
        stage, packed = Path(scratch) / "stage", Path(scratch) / "packed.mar"
        made = _stand_in(source, Path(scratch) / "untrained") if source.untrained else source
        _check_figures(made)
        _stage(made, stage)
        mar.pack(stage, made.recipe, packed)
        entry = Entry(
            name=source.recipe.name,
            version=source.version,
            file=f"{source.recipe.name}-{source.version}.mar",
            sha256=store_index.sha256(packed),
            size=packed.stat().st_size,
            inputs=digest(source),
        )
        mar.verify(entry.model_copy(update={"file": packed.name}), packed.parent)
        store_index.enter(entry, store, packed)
    return entry


def _check_weights(source: Source) -> None:
    if source.untrained or source.weights.is_file():
        return
    if not source.lacks_weights:
        raise BuildError(f"{source.weights}: missing, though the recipe ships it. {how_to_get(source.recipe)}")
    raise MissingWeightsError(
        f"{source.recipe.name}: not built, its weights are not shipped. {how_to_get(source.recipe)} "
        "(Or --untrained, for trying out.)"
    )


def _check_figures(source: Source) -> None:
    """Refuse to pack figures of other weights: a card that is not the model's own looks like one that is."""
    path = source.folder / "metrics.json"
    if not path.is_file():
        return
    measured = json.loads(path.read_bytes()).get("model", {}).get("weights_sha256")
    if measured != source.recipe.weights.sha256:
        raise BuildError(
            f"{path}: holds figures of weights {measured}, the recipe names {source.recipe.weights.sha256}. "
            f"Measure them ('radserve evaluate {source.recipe.name} --data DIR --install'), or remove the figures."
        )


def how_to_get(recipe: Recipe) -> str:
    """Say in one line how to get the weights of a model."""
    way = recipe.weights.source or (
        f"radserve train {recipe.name} --data DIR --install, or radserve import {recipe.name} CHECKPOINT --install"
    )
    return f"To get them: {way.rstrip('.')}."


def _check_store(source: Source, store: Path) -> None:
    trained = store_index.read(store).find(source.recipe.name)
    if source.untrained and trained is not None and trained.version != UNTRAINED:
        raise BuildError(
            f"{store}: holds {trained.name} {trained.version}, beside which no untrained archive may stand: it could "
            "answer in its place. Choose another --model-store."
        )


def _stand_in(source: Source, folder: Path) -> Source:
    from radserve.build.placeholder import stand_in

    return Source(folder, stand_in(source.recipe, source.folder, folder))


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
    from radserve.build import model
    from radserve.build.export import export

    spec = source.recipe.input
    loaded = model.load(source.recipe, source.weights)
    export(loaded, (spec.channels, spec.height, spec.width), stage / "program.pt2")
    (stage / "sample.json").write_text(answer_sample(stage, source.recipe), encoding="utf-8")


def answer_sample(folder: Path, made_from: Recipe) -> str:
    """Answer the sample that lies in an unpacked archive, as the text of its sample.json.

    Raises
    ------
    BuildError
        If it is refused.
    """
    from handlers.errors import RequestError
    from handlers.pipeline import Pipeline
    from handlers.program import Program
    from handlers.response import Model

    pipeline = Pipeline(made_from, Program(folder / "program.pt2"))
    (result,) = pipeline([(folder / made_from.sample).read_bytes()])
    if isinstance(result, RequestError):
        raise BuildError(f"{made_from.name}: its sample {made_from.sample} is refused: {result}")
    service = _service(made_from)
    service.recipe, service.model = made_from, Model(made_from.name, made_from.version, None, made_from.warning)
    return json.dumps(service.summary(service.predict(result).document), indent=2) + "\n"


def _service(made_from: Recipe) -> TorchServeHandler:
    """Make the handler that answers for a recipe; the archive's own copy of it does so later."""
    from handlers.classification import Classification
    from handlers.segmentation import Segmentation

    return {"classification": Classification, "segmentation": Segmentation}[made_from.task]()
