"""A TorchServe archive (.mar) as a file: packed so that equal inputs give equal bytes, and verified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import yaml

from handlers import recipe
from handlers.errors import RecipeError
from handlers.recipe import Recipe
from radserve.build.model_store import Entry, sha256
from radserve.errors import ArchiveError, BuildError

MANIFEST: Final = "MAR-INF/MANIFEST.json"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold stands in every archive."""
_REQUIRED: Final = (
    MANIFEST,
    "archive.yaml",
    "model-config.yaml",
    "program.pt2",
    "sample.json",
    "handlers/torchserve_handler.py",
)


def pack(folder: Path, made_from: Recipe, target: Path) -> None:
    """Pack a staged folder with torch-model-archiver, then rewrite what varies from build to build.

    Parameters
    ----------
    folder
        Holds program.pt2, model-config.yaml and all other files of the archive, in place.
    target
        The .mar to write.
    """
    with tempfile.TemporaryDirectory(prefix="radserve-pack-") as name:
        scratch = Path(name)
        options = {
            "--model-name": made_from.name,
            "--version": made_from.version,
            "--handler": folder / "handlers" / f"{made_from.task}.py",
            "--serialized-file": folder / "program.pt2",
            "--config-file": folder / "model-config.yaml",
            "--extra-files": _extra(folder, scratch),
            "--export-path": scratch,
            "--archive-format": "zip-store",
        }
        _archiver([str(word) for option in options.items() for word in option], scratch)
        _rewrite(scratch / f"{made_from.name}.mar", target)


def _archiver(options: list[str], scratch: Path) -> None:
    """Run torch-model-archiver as a process of its own.

    It stages under a fixed name in the temporary folder and removes what is there: two builds of a
    model at a time would destroy each other's, so each gets a temporary folder of its own.
    """
    stage = scratch / "stage"
    stage.mkdir()
    command = [sys.executable, "-m", "model_archiver.model_packaging", *options]
    done = subprocess.run(command, env=os.environ | {"TMPDIR": str(stage)}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"torch-model-archiver failed: {done.stderr.strip()[-500:]}")


def _extra(folder: Path, scratch: Path) -> Path:
    """Copy what the archiver does not take by another option."""
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
                new.writestr(info, _timeless(old.read(name)))
                continue
            with old.open(name) as data, new.open(info, "w") as out:
                shutil.copyfileobj(data, out)


def _timeless(manifest: bytes) -> bytes:
    document = json.loads(manifest) | {"createdOn": "01/01/1980 00:00:00"}
    return json.dumps(document, indent=2, sort_keys=True).encode()


def verify(entry: Entry, store: Path) -> Recipe:
    """Check an archive against its entry in the index and against itself.

    Returns
    -------
    The recipe in the archive.

    Raises
    ------
    ArchiveError
        Naming the archive and what is wrong with it.
    """
    path = store / entry.file
    again = f"Build it again: radserve build {entry.name}."
    if not path.is_file():
        raise ArchiveError(f"{path}: listed in the index, but missing. {again}")
    size = path.stat().st_size
    if size != entry.size:
        raise ArchiveError(f"{path}: has {size} bytes, the index says {entry.size}. {again}")
    found = sha256(path)
    if found != entry.sha256:
        raise ArchiveError(f"{path}: has sha256 {found}, the index says {entry.sha256}. {again}")
    try:
        with zipfile.ZipFile(path) as archive:
            return _verify_contents(archive, entry, path)
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"{path}: is no archive ({error}). {again}") from error
    except RecipeError as error:
        raise ArchiveError(f"{error}. {again}") from error


def _verify_contents(archive: zipfile.ZipFile, entry: Entry, path: Path) -> Recipe:
    missing = set(_REQUIRED) - set(archive.namelist())
    if missing:
        raise ArchiveError(f"{path}: {', '.join(sorted(missing))} is missing in it.")
    model = json.loads(archive.read(MANIFEST))["model"]
    read = recipe.parse(yaml.safe_load(archive.read("archive.yaml")), source=f"{path}: archive.yaml")
    for where, name, version in (
        ("its manifest", model["modelName"], model["modelVersion"]),
        ("its recipe", read.name, read.version),
    ):
        if (name, version) != (entry.name, entry.version):
            raise ArchiveError(f"{path}: the index lists {entry.name} {entry.version}, {where} says {name} {version}.")
    return read


def sample(path: Path, read: Recipe) -> tuple[bytes, dict[str, object]]:
    """Take the sample image and the answer stored beside it out of an archive."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(read.sample), json.loads(archive.read("sample.json"))
