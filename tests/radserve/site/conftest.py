"""A small archive, and labelled images of a site."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow

import handlers
from radserve.build import model_store
from radserve.build.mar import MANIFEST
from radserve.build.model_store import Entry, Index
from tests.conftest import brightness_recipe

DETECTOR = b"replaced by tests"


SECTION = {
    "file": "detector.safetensors",
    "sha256": "0" * 64,
    "method": "by hand",
    "parts": ["thumbnail"],
    "marked": 1.0,
    "refused": 2.0,
    "fitted": "by hand",
    "split": "0" * 64,
}
"""A detector's section of a recipe."""


@pytest.fixture(scope="session")
def site_store(brightness_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model store with `Brightness`, whose recipe says how its threshold was chosen."""
    return _store(tmp_path_factory.mktemp("store"), brightness_archive, {}, {})


@pytest.fixture(scope="session")
def detector_store(brightness_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model store with `Brightness` and a detector, which tests replace by another one."""
    section = SECTION | {"sha256": hashlib.sha256(DETECTOR).hexdigest()}
    folder = tmp_path_factory.mktemp("store")
    return _store(folder, brightness_archive, {"detector": section}, {"detector.safetensors": DETECTOR})


@pytest.fixture(scope="session")
def second_pass_store(brightness_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model store with `Brightness`, and a second pass of every image but white ones."""
    sets = {"level": 0.9, "quantiles": {"dark": 0.5, "bright": 0.5}, "fitted": "by hand", "split": "0" * 64}
    sections: dict[str, object] = {"uncertainty": sets, "second_pass": {"darker_than": 0.99, "fitted": "by hand"}}
    return _store(tmp_path_factory.mktemp("store"), brightness_archive, sections, {})


def _store(store: Path, unpacked: Path, sections: dict[str, object], members: dict[str, bytes]) -> Path:
    recipe = brightness_recipe() | {
        "decision": {"positive": "bright", "threshold": 0.6, "chosen": "by hand", "sensitivity": 0.9},
        "calibration": {"temperature": 2.0, "prevalence": 0.5, "fitted": "by hand"},
    }
    files = {
        MANIFEST: json.dumps({"model": {"modelName": "brightness", "modelVersion": "1.0.0"}}).encode(),
        "archive.yaml": yaml.safe_dump(recipe | sections).encode(),
        "model-config.yaml": b"",
        "handlers/__init__.py": Path(handlers.__file__).read_bytes(),
    } | {name: (unpacked / name).read_bytes() for name in ("program.pt2", "sample.json", "sample.png")}
    path = store / "brightness.mar"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | members).items():
            archive.writestr(name, content)
    entry = Entry(
        name="brightness",
        version="1.0.0",
        file=path.name,
        sha256=model_store.sha256(path),
        size=path.stat().st_size,
        inputs="0" * 64,
    )
    model_store.write(store, Index(archives=(entry,)))
    return store


@pytest.fixture(scope="session")
def site_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 films of 60 patients; bright and dark ones overlap, and all are brighter than the model expects."""
    folder, random = tmp_path_factory.mktemp("site"), np.random.default_rng(1)
    for number in range(120):
        label = ("dark", "bright")[number // 2 % 2]
        level = random.normal({"dark": 130, "bright": 170}[label], 20)
        row = np.clip(np.linspace(level - 60, level + 60, 48) + random.normal(size=48), 0, 255).astype(np.uint8)
        path = folder / label / f"patient {number // 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.tile(row, (32, 1))).save(path)
    return folder
