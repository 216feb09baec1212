"""Builds a model's archive into the model store."""

import hashlib
import importlib.util
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

import handlers
from handlers import distribution, engine
from handlers.errors import MetricsError
from handlers.recipe import Recipe
from radserve.build import mar
from radserve.build import model_store as store_index
from radserve.build.model_store import UNTRAINED, Entry
from radserve.build.source import Source
from radserve.errors import BuildError, MissingWeightsError

_COPIED: Final = {
    "archive.yaml": "archive.yaml",
    "torchserve.yaml": "model-config.yaml",
    "metrics.json": "metrics.json",
    "CARD.md": "CARD.md",
}
"""Files of a model's folder that are copied into the archive if they exist."""
_LIBRARIES: Final = ("torchvision", "monai")
_CODE: Final = ("handlers", "training.networks", "radserve.build")
"""Packages that determine the content of an archive."""


def is_current(source: Source, store: Path) -> bool:
    """Whether the store has an archive built from the same inputs."""
    entry = store_index.read(store).find(source.recipe.name, source.version)
    return entry is not None and entry.inputs == digest(source) and (store / entry.file).is_file()


def outdated(sources: Iterable[Source], store: Path) -> list[Source]:
    """Return what can be built and is missing in the store, or was built from other inputs."""
    return [source for source in sources if not source.lacks_weights and not is_current(source, store)]


def digest(source: Source) -> str:
    """Hash the inputs of an archive: recipe, weights, code, and the versions of the libraries that determine it."""
    files = [source.weights, *(source.folder / name for name in (*_own_files(source.recipe), *_COPIED))]
    files += [module for package in _CODE for module in _modules(package)]
    files += _own_module(source.recipe.network)
    versions = " ".join([metadata.version("torch"), *map(_version, _libraries(source.recipe.network))])
    total = hashlib.sha256(f"{versions} untrained={source.untrained}\n".encode())
    for path in files:
        if path.exists():
            total.update(f"{path.name} {store_index.sha256(path)}\n".encode())
    return total.hexdigest()


def _own_files(recipe: Recipe) -> list[str]:
    """Return the names of files that a recipe names and that are copied into the archive."""
    return [recipe.sample, *([] if recipe.detector is None else [recipe.detector.file])]


def _libraries(network: str) -> tuple[str, ...]:
    """Return the distribution that a network is from, besides this project and torch."""
    library = network.partition(":")[0]
    return (library,) if library in _LIBRARIES and network != library else ()


def _version(library: str) -> str:
    try:
        return f"{library} {metadata.version(library)}"
    except metadata.PackageNotFoundError:
        return f"{library} absent"  # the network cannot be created then, which a build reports


def _own_module(network: str) -> list[Path]:
    """Return the source of a network `module:PACKAGE.MODULE:CLASS`, if it is found, without importing its module.

    Finding a module imports the packages above it, whose code is not permitted here, so the path is searched for.
    """
    kind, _, target = network.partition(":")
    parts = target.partition(":")[0].split(".")
    if kind != "module" or not all(part.isidentifier() for part in parts):
        return []
    stems = [Path(folder, *parts) for folder in sys.path]
    paths = (path for stem in stems for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file())
    return list(itertools.islice(paths, 1))


def _modules(package: str) -> list[Path]:
    """List the modules of a package without importing it, because `training.networks` imports torch."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return sorted(Path(spec.origin).parent.rglob("*.py"))


def build(source: Source, store: Path) -> Entry:
    """Export, verify and pack one model, and add it to the index of the store.

    Raises MissingWeightsError if the weights are not shipped and `source.untrained` is false, and BuildError if the
    folder is incomplete, or recipe, weights, metrics and network do not match.
    """
    _check_weights(source)
    store.mkdir(parents=True, exist_ok=True)
    _check_store(source, store)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=store) as scratch:
        stage, archive = Path(scratch) / "stage", Path(scratch) / "packed.mar"
        trained = source
        if source.untrained:
            from radserve.build import placeholder

            folder = Path(scratch) / "untrained"
            trained = Source(folder, placeholder.create(source, folder))
        _check_metrics(trained)
        _check_detector(trained)
        _stage(trained, stage)
        mar.pack(stage, trained.recipe, archive)
        entry = Entry(
            name=source.recipe.name,
            version=source.version,
            file=f"{source.recipe.name}-{source.version}.mar",
            sha256=store_index.sha256(archive),
            size=archive.stat().st_size,
            inputs=digest(source),
        )
        mar.verify(entry.model_copy(update={"file": archive.name}), archive.parent)
        store_index.enter(entry, store, archive)
    return entry


def _check_weights(source: Source) -> None:
    if source.untrained or source.weights.is_file():
        return
    if not source.lacks_weights:
        raise BuildError(f"{source.weights}: missing, although the recipe ships it. {source.weights_hint}")
    raise MissingWeightsError(
        f"{source.recipe.name}: its weights are not shipped. {source.weights_hint} "
        "(Or use --untrained to try it with placeholder weights.)"
    )


def _check_metrics(source: Source) -> None:
    """Reject metrics of other weights, which would appear in the archive as those of this model."""
    path = source.folder / "metrics.json"
    if not path.is_file():
        return
    try:
        distribution.check(path)
    except MetricsError as error:
        raise BuildError(f"{error} Run 'radserve evaluate {source.recipe.name} --data DIR --install'.") from error
    measured = json.loads(path.read_bytes()).get("model", {}).get("weights_sha256")
    if measured != source.recipe.weights.sha256:
        raise BuildError(
            f"{path}: contains metrics of weights {measured}, the recipe names {source.recipe.weights.sha256}. "
            f"Run 'radserve evaluate {source.recipe.name} --data DIR --install', or delete the file."
        )


def _check_detector(source: Source) -> None:
    """Reject a detector that was fitted to the layers of other weights: it would judge images by chance."""
    section, weights = source.recipe.detector, source.recipe.weights.sha256
    if section is not None and section.layers and section.weights_sha256 != weights:
        raise BuildError(
            f"{source.folder / 'archive.yaml'}: detector.weights_sha256 has value {section.weights_sha256}, "
            f"weights.sha256 is {weights}: the detector was fitted with other weights. Run 'radserve fit-detector "
            f"{source.recipe.name} --data DIR --install'."
        )


def _check_store(source: Source, store: Path) -> None:
    existing = store_index.read(store).find(source.recipe.name)
    if source.untrained and existing is not None and existing.version != UNTRAINED:
        raise BuildError(
            f"{store}: contains {existing.name} {existing.version}. An untrained archive cannot be added beside a "
            "trained one, because it could be served in its place. Choose another --model-store."
        )


def _stage(source: Source, stage: Path) -> None:
    package = Path(handlers.__file__).parent
    shutil.copytree(package, stage / "handlers", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    own = _own_files(source.recipe)
    for name in ("torchserve.yaml", *own):
        if not (source.folder / name).exists():
            old = source.folder / _COPIED.get(name, name)
            advice = f"rename {old.name} to {name}" if old.exists() else "every archive needs it"
            raise BuildError(f"{source.folder / name}: missing; {advice}.")
    for name, target in {**_COPIED, **{name: name for name in own}}.items():
        if (source.folder / name).exists():
            shutil.copyfile(source.folder / name, stage / target)
    _export(source, stage)


def _export(source: Source, stage: Path) -> None:
    from radserve.build import trained_network
    from radserve.build.export import export

    spec = source.recipe.input
    shape = (spec.channels, spec.height, spec.width)
    network = trained_network.load_for_export(source.recipe, source.weights)
    export(network, shape, stage / engine.EXPORTED)
    if source.recipe.runtime.engine == "onnxruntime":
        from radserve.build import onnx_export

        onnx_export.export(network, shape, stage / engine.EXPORTED, stage / engine.ONNX)
    (stage / "sample.json").write_text(predict_sample(stage, source.recipe), encoding="utf-8")


def predict_sample(folder: Path, recipe: Recipe) -> str:
    """Return the content of the archive's `sample.json`: the prediction of the sample by an unpacked archive."""
    from handlers.classification import Classification
    from handlers.segmentation import Segmentation

    handler = {"classification": Classification, "segmentation": Segmentation}[recipe.task]()
    handler.load(folder, mode="strict")  # a build does not depend on the environment
    (summary,) = handler.predict_sample(folder)
    return json.dumps(summary, indent=2) + "\n"
