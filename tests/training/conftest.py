import shutil
from collections.abc import Iterator
from dataclasses import dataclass
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
LENET = ("epochs=8", "batch=20", "average=0.8", "validation=0.2")
"""Overrides with which cifar10-lenet learns synthetic photographs in seconds."""


@dataclass(frozen=True)
class Trained:
    """A finished run, installed in a copy of the model's folder."""

    folder: Path
    data: Path
    out: Path

    def copy(self, target: Path) -> "Trained":
        """Copy folder and run, for a test that changes them."""
        folder = Path(shutil.copytree(self.folder, target / "archives" / self.folder.name))
        return Trained(folder, self.data, Path(shutil.copytree(self.out, target / "out")))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Use one thread, because tiny batches do not benefit from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return recipes.load(ARCHIVE / "archive.yaml")


@pytest.fixture(scope="session")
def quick() -> Settings:
    """Settings of a run that takes seconds."""
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
    """Model folder with the shipped recipe and the quick settings."""
    return make_archive(tmp_path / "archives" / "chest-xray-cnn", quick)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Forty synthetic films in the public layout; pneumonia is bright on one side."""
    return make_films(tmp_path / "chest_xray")


@pytest.fixture
def real(shared: Path) -> Path:
    """The real training films."""
    return shared / "chest_xray_224"


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred synthetic photographs in the public layout."""
    return make_cifar(tmp_path_factory.mktemp("cifar10"), each=20)


@pytest.fixture(scope="session")
def lenet(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """cifar10-lenet, trained on the photographs for a few epochs; do not modify."""
    from training.train import Options, train

    top = tmp_path_factory.mktemp("lenet")
    trained = Trained(copy_archive(top / "archives", "cifar10-lenet"), photographs, top / "out")
    train(trained.folder, trained.data, trained.out, Options(overrides=LENET, install=True, progress=False))
    return trained


def copy_archive(archives: Path, name: str) -> Path:
    """Copy the files of a shipped model, without weights and metrics."""
    folder = archives / name
    folder.mkdir(parents=True)
    for file in ("archive.yaml", "training.yaml", "torchserve.yaml", "sample.png"):
        shutil.copyfile(ROOT / "archives" / name / file, folder / file)
    return folder


def make_archive(folder: Path, config: Settings) -> Path:
    """Write a model folder with the shipped recipe and other settings."""
    folder.mkdir(parents=True)
    (folder / "archive.yaml").write_bytes((ARCHIVE / "archive.yaml").read_bytes())
    (folder / "training.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    return folder


def make_films(folder: Path) -> Path:
    """Write forty synthetic films."""
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
    """Write one synthetic film."""
    values = np.random.default_rng(seed).normal(90, 12, (84, 120))
    values[30:60, 15:50] += 80 * bright
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def make_glioma(folder: Path, patients: int, each: int, side: int = 64) -> Path:
    """Write synthetic slices in the public layout; every other slice has a tumour, bright in the second channel."""
    for patient in range(patients):
        name = f"TCGA_XX_{patient:04}_20000101"
        case = folder / "kaggle_3m" / name
        case.mkdir(parents=True)
        for number in range(1, each + 1):
            random = np.random.default_rng((patient, number))
            values = random.normal(60, 8, (side, side, 3)).clip(0, 120).astype(np.uint8)
            mask = np.zeros((side, side), dtype=np.uint8)
            if number % 2:
                top, left = random.integers(side // 8, side // 2, 2) // 4 * 4
                mask[top : top + side // 4, left : left + side // 4] = 255
            values[..., 1][mask > 0] = 220
            Image.fromarray(values).save(case / f"{name}_{number}.tif")
            Image.fromarray(mask).save(case / f"{name}_{number}_mask.tif")
    return folder


def make_cifar(folder: Path, each: int) -> Path:
    """Write synthetic photographs in the binary layout; each label has its colour and stripe width."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.arange(32)[None, :, None]
    records = []
    for number in range(10 * each):
        label, random = number % 10, np.random.default_rng(number)
        colour = np.random.default_rng((7, label)).uniform(50, 200, (3, 1, 1))
        values = random.normal(colour + 40 * np.sin(rows / (1 + label % 5)), 15, (3, 32, 32))
        records.append(bytes([label]) + values.clip(0, 255).astype(np.uint8).tobytes())
    (folder / "data_batch_1.bin").write_bytes(b"".join(records))
    return folder
