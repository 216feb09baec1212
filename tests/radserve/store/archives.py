"""Small archives that pass every check but contain no network."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import yaml

from radserve.build import model_store as index
from radserve.build.model_store import Entry
from tests.conftest import brightness_recipe


def make(model_store: Path, name: str = "chest", version: str = "1.0.0", *, content: int = 0, size: int = 0) -> Entry:
    """Create an archive in a model store and add it to the index.

    Parameters
    ----------
    content
        Seed; archives of the same version with other seeds have other bytes.
    size
        Minimum size in bytes.
    """
    model_store.mkdir(exist_ok=True)
    file = f"{name}-{version}.mar"
    manifest: dict[str, Any] = {"model": {"modelName": name, "modelVersion": version}}
    recipe = brightness_recipe() | {"name": name, "version": version}
    with zipfile.ZipFile(model_store / file, "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        packed.writestr("archive.yaml", yaml.safe_dump(recipe))
        packed.writestr("model-config.yaml", "minWorkers: 1\n")
        packed.writestr("program.pt2", random.Random(content).randbytes(max(size, 1000)))
        packed.writestr("sample.json", "{}")
        packed.writestr("handlers/__init__.py", "")
    return enter(model_store, name, version, file)


def enter(model_store: Path, name: str, version: str, file: str) -> Entry:
    """Add a file to a model store's index without checks."""
    path = model_store / file
    size, digest = path.stat().st_size, index.sha256(path)
    entry = Entry(name=name, version=version, file=file, sha256=digest, size=size, inputs="1" * 64)
    index.write(model_store, index.read(model_store).put(entry))
    return entry
