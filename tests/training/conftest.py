from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import settings
from training.settings import Settings

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT / "archives" / "chest-xray-cnn"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny batches gain nothing from threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return recipes.load(ARCHIVE / "archive.yaml")


@pytest.fixture(scope="session")
def quick() -> Settings:
    """Settings that show everything in seconds."""
    return settings.Settings(
        data="chest_xray",
        validation=0.3,
        epochs=3,
        batch=8,
        average=0.5,
        augmentation=settings.load(ARCHIVE / "training.yaml").augmentation,
    )


@pytest.fixture
def archive(tmp_path: Path, quick: Settings) -> Path:
    """An archive's folder with the shipped recipe and the quick settings."""
    return make_archive(tmp_path / "archives" / "chest-xray-cnn", quick)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Forty invented films in the public layout: pneumonia is bright on one side."""
    return make_films(tmp_path / "chest_xray")


@pytest.fixture
def real(shared: Path) -> Path:
    """The real training films."""
    return shared / "chest_xray_224"


def make_archive(folder: Path, chosen: Settings) -> Path:
    """Write the shipped recipe beside other settings."""
    folder.mkdir(parents=True)
    (folder / "archive.yaml").write_bytes((ARCHIVE / "archive.yaml").read_bytes())
    (folder / "training.yaml").write_text(yaml.safe_dump(chosen.model_dump(mode="json")), encoding="utf-8")
    return folder


def make_films(folder: Path) -> Path:
    """Write forty invented films."""
    for number in range(1, 16):
        film(folder / "train" / "NORMAL" / f"IM-{number:04}-0001.jpeg", seed=number, bright=False)
    for number in range(1, 12):
        film(folder / "train" / "PNEUMONIA" / f"person{number}_bacteria_{number}.jpeg", seed=100 + number, bright=True)
        film(folder / "train" / "PNEUMONIA" / f"person{number}_virus_{number}.jpeg", seed=200 + number, bright=True)
    film(folder / "val" / "NORMAL" / "NORMAL2-IM-0001-0001.jpeg", seed=300, bright=False)
    film(folder / "val" / "PNEUMONIA" / "person1_bacteria_99.jpeg", seed=301, bright=True)
    film(folder / "val" / "PNEUMONIA" / "person12_virus_98.jpeg", seed=302, bright=True)
    return folder


def film(path: Path, seed: int, *, bright: bool) -> None:
    """Write one invented film."""
    values = np.random.default_rng(seed).normal(90, 12, (84, 120))
    values[30:60, 15:50] += 80 * bright
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path, quality=90)
