"""Fixtures: the archive of a small classifier and of a small segmentation model, images, and the command."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import handlers
from radserve.build import model_store
from radserve.build.model_store import Entry
from tests.radserve.store.conftest import aws, moto_url


def pack(folder: Path, store: Path, name: str, version: str = "1.0.0") -> Entry:
    """Pack an unpacked archive and enter it into a model store."""
    path = store / f"{name}-{version}.mar"
    manifest = {"model": {"modelName": name, "modelVersion": version}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("model-config.yaml", "batchSize: 4\n")
        archive.writestr("handlers/__init__.py", Path(handlers.__file__).read_bytes())
        for file in folder.iterdir():
            recipe = yaml.safe_load(file.read_bytes()) | {"version": version} if file.name == "archive.yaml" else None
            archive.writestr(file.name, file.read_bytes() if recipe is None else yaml.safe_dump(recipe))
    sha256, size = model_store.sha256(path), path.stat().st_size
    entry = Entry(name=name, version=version, file=path.name, sha256=sha256, size=size, inputs="0" * 64)
    model_store.write(store, model_store.read(store).put(entry))
    return entry


@pytest.fixture(scope="session")
def models(brightness_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold two versions of a small classifier."""
    store = tmp_path_factory.mktemp("models")
    for version in ("1.0.0", "1.1.0"):
        pack(brightness_archive, store, "brightness", version)
    return store


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold 12 readable images of different brightness, and 3 files that cannot be analysed."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 12)
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:60])
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "sub").mkdir()
    (folder / "sub" / "text.jpg").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("no image")
    return folder


def write_images(folder: Path, count: int) -> list[Path]:
    """Write different gradients."""
    import numpy as np
    from PIL import Image

    paths = [folder / f"{number:03}.png" for number in range(count)]
    for number, path in enumerate(paths):
        high = 60 + 190 * number // count
        Image.fromarray(np.tile(np.linspace(20, high, 48).astype(np.uint8), (32, 1))).save(path)
    return paths


def command(*arguments: object) -> list[str]:
    """Return a command line of `radserve score`."""
    return [sys.executable, "-m", "radserve", "score", *map(str, arguments)]


def table(output: Path) -> list[dict[str, Any]]:
    """Read all rows of a job."""
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(output / "results").to_pylist()
    return rows


__all__ = ["aws", "moto_url"]  # fixtures
