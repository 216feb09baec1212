import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import datasets
from training import describe as command
from training.datasets import split
from training.datasets.cifar10 import CLASSES
from training.datasets.description import Description, Masks
from training.errors import DataError
from training.settings import Settings

from .slices import make_slices

SETTINGS = Settings(data="chest_xray", validation=0.3)


def describe(name: str, folder: Path, settings: Settings) -> Description:
    return command.describe(name, datasets.find(name, folder), settings)


@pytest.fixture
def glioma(tmp_path: Path) -> Path:
    """Synthetic slices of four patients."""
    return make_slices(tmp_path / "lgg")


def test_a_description_counts_the_images(films: Path) -> None:
    result = describe("chest_xray", films, SETTINGS)
    assert result.labels == {"normal": 16, "pneumonia": 24}
    assert result.kinds == {"JPEG L": 40}
    assert result.sizes == {(120, 84): 40}
    assert sum(result.groups.values()) == 40
    assert result.masks is None
    assert result.problems == ()


def test_the_sides_equal_those_of_training(films: Path) -> None:
    result = describe("chest_xray", films, SETTINGS)
    examples = datasets.find("chest_xray", films)
    sides = split.by_group(examples, SETTINGS.validation, SETTINGS.seed)
    assert result.sides["train"].images == len(sides.train)
    assert result.sides["validation"].images == len(sides.validation)
    validation = {examples[index].group for index in sides.validation}
    assert result.sides["validation"].groups == len(validation)
    assert sum(result.sides["validation"].labels.values()) == len(sides.validation)


def test_formats_and_depths_are_distinguished(films: Path) -> None:
    Image.fromarray(np.zeros((50, 60), dtype=np.uint16)).save(films / "train" / "NORMAL" / "IM-0800-0001.png")
    result = describe("chest_xray", films, SETTINGS)
    assert result.kinds == {"JPEG L": 40, "PNG I;16": 1}
    assert result.sizes == {(120, 84): 40, (60, 50): 1}


def test_copies_are_listed(films: Path) -> None:
    folder = films / "train" / "NORMAL"
    shutil.copy(folder / "IM-0003-0001.jpeg", folder / "IM-0900-0001.jpeg")
    result = describe("chest_xray", films, SETTINGS)
    assert result.copies == (("train/NORMAL/IM-0003-0001.jpeg", "train/NORMAL/IM-0900-0001.jpeg"),)
    assert result.problems == ()


@pytest.mark.parametrize("keep", [0, 10, 600])
def test_a_broken_film_is_reported(films: Path, keep: int) -> None:
    path = films / "train" / "NORMAL" / "IM-0003-0001.jpeg"
    path.write_bytes(path.read_bytes()[:keep])
    result = describe("chest_xray", films, SETTINGS)
    (problem,) = result.problems
    assert problem.startswith("train/NORMAL/IM-0003-0001.jpeg: broken")
    assert " at 0x" not in problem
    assert sum(result.kinds.values()) == 39


def test_a_data_set_that_cannot_be_split_is_still_described(films: Path) -> None:
    for path in sorted((films / "train" / "NORMAL").iterdir())[1:]:
        path.unlink()
    (films / "val" / "NORMAL" / "NORMAL2-IM-0001-0001.jpeg").unlink()
    result = describe("chest_xray", films, SETTINGS)
    assert result.sides == {}
    assert result.labels["normal"] == 1
    assert any(problem.startswith("The data set cannot be split") for problem in result.problems)


def test_masks_and_empty_masks_are_counted(glioma: Path) -> None:
    result = describe("lgg_mri", glioma, SETTINGS)
    assert result.masks == Masks(total=12, empty=4)
    assert len(result.groups) == 4
    assert result.problems == ()


@pytest.mark.parametrize(
    ("name", "folder"), [("chest_xray", "chest_xray_224"), ("brain_tumor", "brain_tumor"), ("lgg_mri", "lgg_mri")]
)
def test_the_real_data_has_no_leak_and_no_broken_file(shared: Path, name: str, folder: str) -> None:
    result = describe(name, shared / folder, Settings(data=name))
    assert result.problems == ()
    assert set(result.sides) == {"train", "validation"}


def test_the_command_prints_the_table_draws_samples_and_succeeds(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(None, films, tmp_path / "samples.png", 0.3, 1) == 0
    assert "pneumonia" in capsys.readouterr().out
    assert (tmp_path / "samples.png").is_file()


def test_the_command_fails_if_there_are_problems(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (films / "train" / "NORMAL" / "IM-0003-0001.jpeg").write_bytes(b"nothing")
    assert command.main("chest_xray", films, None, 0.3, 1) == 1
    assert "IM-0003-0001.jpeg: broken" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        (["NORMAL", "PNEUMONIA"], "chest_xray"),
        (["train/NORMAL", "train/PNEUMONIA", "val/NORMAL"], "chest_xray"),
        (["yes", "no"], "brain_tumor"),
        (["kaggle_3m"], "lgg_mri"),
        (["TCGA_CS_4941_19960909"], "lgg_mri"),
        ([f"train/{label}" for label in CLASSES], "cifar10"),
        (list(CLASSES), "cifar10"),
    ],
)
def test_the_data_set_is_detected_from_its_layout(tmp_path: Path, folders: list[str], name: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert command.kind_of(tmp_path) == name


def test_a_tar_file_is_cifar10(tmp_path: Path) -> None:
    (tmp_path / "some.tar").touch()
    assert command.kind_of(tmp_path / "some.tar") == "cifar10"


@pytest.mark.parametrize("folders", [[], ["yes"], ["train/NORMAL"], ["airplane", "bird"]])
def test_an_unknown_layout_requires_the_kind(tmp_path: Path, folders: list[str]) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match="--kind"):
        command.kind_of(tmp_path)
