"""TorchServe archives (.mar): packs them reproducibly and verifies them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

import handlers
from handlers import engine
from handlers import recipe as recipes
from handlers.errors import RecipeError
from handlers.recipe import Recipe
from radserve.build.model_store import Entry, sha256
from radserve.errors import ArchiveError, BuildError

MANIFEST: Final = "MAR-INF/MANIFEST.json"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # time of every file in an archive: the earliest that a zip can store
_REQUIRED: Final = (MANIFEST, "archive.yaml", "model-config.yaml", "program.pt2", "sample.json", "handlers/__init__.py")


_MAX_DOCUMENT: Final = 1 << 20
"""Longest manifest, recipe or model card, in bytes; real ones have at most a few thousand."""
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, EOFError, LookupError, RuntimeError, TypeError, ValueError)
"""What zipfile, json and yaml raise on damaged archives; RuntimeError includes RecursionError and unknown methods."""


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive to read its files.

    Raises ArchiveError if they are larger than the archive: its files are stored, not compressed, so that an archive
    in memory or unpacked is never larger than the bytes that were downloaded and verified.
    """
    with zipfile.ZipFile(path) as archive:
        size, unpacked = path.stat().st_size, sum(info.file_size for info in archive.infolist())
        if unpacked > size:
            raise ArchiveError(
                f"{path}: unpacks to {unpacked} bytes, but has {size}: its files are compressed or overlap. "
                "Build archives with 'radserve build', which stores them uncompressed."
            )
        yield archive


def document(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a short text file of an archive; raises ArchiveError if it is too long, and KeyError if it is missing."""
    size = archive.getinfo(name).file_size
    if size > _MAX_DOCUMENT:
        raise ArchiveError(f"{archive.filename}: its {name} has {size} bytes, more than {_MAX_DOCUMENT}.")
    return archive.read(name)


def require_same_code(archive: zipfile.ZipFile, path: Path) -> None:
    """Reject an archive of another release: TorchServe would run its code, this process runs the installed one."""
    installed = Path(handlers.__file__).parent
    for name in archive.namelist():
        if not (name.startswith("handlers/") and name.endswith(".py")):
            continue
        module = installed / name.removeprefix("handlers/")
        if not module.is_file() or module.read_bytes() != archive.read(name):
            raise ArchiveError(
                f"{path}: its {name} differs from the installed one, so predictions could differ. "
                "Rebuild the archive with this release: radserve build."
            )


def manifest(path: Path) -> dict[str, str]:
    """Return the model section of an archive's manifest; raises ArchiveError if it has none."""
    try:
        with opened(path) as archive:
            model = json.loads(document(archive, MANIFEST))["model"]
            return {"name": model["modelName"], "version": model["modelVersion"]}
    except _DAMAGE as error:
        raise ArchiveError(f"{path}: not a valid archive ({error!r}); build it with 'radserve build NAME'.") from error


def pack(folder: Path, recipe: Recipe, target: Path) -> None:
    """Pack a folder with torch-model-archiver, then rewrite the parts that differ between builds."""
    with tempfile.TemporaryDirectory(prefix="radserve-pack-") as name:
        scratch = Path(name)
        options = {
            "--model-name": recipe.name,
            "--version": recipe.version,
            "--handler": folder / "handlers" / f"{recipe.task}.py",
            "--serialized-file": folder / "program.pt2",
            "--config-file": folder / "model-config.yaml",
            "--extra-files": _extra_files(folder, scratch),
            "--export-path": scratch,
            "--archive-format": "zip-store",
        }
        _run_archiver([str(part) for option in options.items() for part in option], scratch)
        _rewrite(scratch / f"{recipe.name}.mar", target)


def _run_archiver(options: list[str], scratch: Path) -> None:
    # It deletes what has its fixed name in the temporary folder: concurrent builds of a model need separate ones.
    stage = scratch / "stage"
    stage.mkdir()
    command = [sys.executable, "-m", "model_archiver.model_packaging", *options]
    process = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(stage)}, capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        raise BuildError(f"torch-model-archiver failed: {process.stderr.strip()[-500:]}")


def _extra_files(folder: Path, scratch: Path) -> Path:
    """Copy the files that the archiver does not receive through another option."""
    extra = scratch / "extra"
    shutil.copytree(folder, extra, ignore=lambda _, names: {"program.pt2", "model-config.yaml"} & set(names))
    return extra


def _rewrite(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in sorted(item.filename for item in old.infolist() if not item.is_dir()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            info.file_size = old.getinfo(name).file_size
            if name == MANIFEST:
                new.writestr(info, _fixed_time(old.read(name)))
                continue
            with old.open(name) as data, new.open(info, "w") as out:
                shutil.copyfileobj(data, out)


def _fixed_time(manifest: bytes) -> bytes:
    document = json.loads(manifest) | {"createdOn": "01/01/1980 00:00:00"}
    return json.dumps(document, indent=2, sort_keys=True).encode()


def verify(entry: Entry, store: Path) -> Recipe:
    """Check an archive against its entry, and its parts against each other; return its recipe or raise ArchiveError."""
    path = store / entry.file
    rebuild = f"Rebuild it: radserve build {entry.name}."
    if not path.is_file():
        raise ArchiveError(f"{path}: in the index, but missing. {rebuild}")
    size = path.stat().st_size
    if size != entry.size:
        raise ArchiveError(f"{path}: has {size} bytes, the index has {entry.size}. {rebuild}")
    digest = sha256(path)
    if digest != entry.sha256:
        raise ArchiveError(f"{path}: has sha256 {digest}, the index has {entry.sha256}. {rebuild}")
    try:
        with opened(path) as archive:
            return _verify_contents(archive, entry, path)
    except RecipeError as error:
        raise ArchiveError(f"{error}. {rebuild}") from error
    except (*_DAMAGE, yaml.YAMLError) as error:
        raise ArchiveError(f"{path}: invalid archive ({error}). {rebuild}") from error


def _verify_contents(archive: zipfile.ZipFile, entry: Entry, path: Path) -> Recipe:
    _require(archive, path, _REQUIRED)
    model = json.loads(document(archive, MANIFEST))["model"]
    recipe = recipes.parse(yaml.safe_load(document(archive, "archive.yaml")), source=f"{path}: archive.yaml")
    _require(archive, path, engine.members(recipe))
    _verify_detector(archive, recipe, path)
    for part, name, version in (
        ("manifest", model["modelName"], model["modelVersion"]),
        ("recipe", recipe.name, recipe.version),
    ):
        if (name, version) != (entry.name, entry.version):
            raise ArchiveError(f"{path}: the index has {entry.name} {entry.version}, its {part} {name} {version}.")
    return recipe


def _require(archive: zipfile.ZipFile, path: Path, names: Iterable[str]) -> None:
    missing = set(names) - set(archive.namelist())
    if missing:
        raise ArchiveError(f"{path}: does not contain {', '.join(sorted(missing))}.")


def _verify_detector(archive: zipfile.ZipFile, recipe: Recipe, path: Path) -> None:
    section = recipe.detector
    if section is None:
        return
    if section.file not in archive.namelist():
        raise ArchiveError(f"{path}: does not contain {section.file}, the detector that its recipe names.")
    digest = hashlib.sha256(archive.read(section.file)).hexdigest()
    if digest != section.sha256:
        raise ArchiveError(f"{path}: its {section.file} has sha256 {digest}, its recipe has {section.sha256}.")


def sample(path: Path, recipe: Recipe) -> tuple[bytes, dict[str, object]]:
    """Read the sample image and its stored prediction from an archive."""
    with opened(path) as archive:
        return archive.read(recipe.sample), json.loads(archive.read("sample.json"))
