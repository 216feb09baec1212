import shutil
from pathlib import Path

import pytest

from training import datasets
from training.datasets import chest_xray
from training.errors import DataError, SettingsError


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("person1000_bacteria_2931", "bacteria-1000"),
        ("person1000_virus_1681", "virus-1000"),
        ("person23_virus_45_1", "virus-23"),
        ("IM-0115-0001", "IM-0115"),
        ("IM-0115-0001-0002", "IM-0115"),
        ("NORMAL2-IM-0115-0001", "NORMAL2-IM-0115"),
    ],
)
def test_the_patient_is_derived_from_the_file_name(stem: str, patient: str) -> None:
    assert chest_xray.patient(stem) == patient


def test_an_unknown_file_name_is_rejected() -> None:
    with pytest.raises(DataError, match="holiday"):
        chest_xray.patient("holiday")


def test_train_and_val_are_pooled(films: Path) -> None:
    result = chest_xray.find(films)
    assert len(result) == 40
    assert sum(example.label == "pneumonia" for example in result) == 24
    assert {example.name.split("/")[0] for example in result} == {"train", "val"}


def test_class_folders_may_be_direct_subfolders(films: Path) -> None:
    assert len(chest_xray.find(films / "train")) == 37


def test_examples_are_sorted_by_name(films: Path) -> None:
    names = [example.name for example in chest_xray.find(films)]
    assert names == sorted(names)


def test_exact_duplicates_share_a_group(films: Path) -> None:
    folder = films / "train" / "NORMAL"
    shutil.copy(folder / "IM-0003-0001.jpeg", folder / "IM-0900-0001.jpeg")
    groups = {example.path.stem: example.group for example in chest_xray.find(films)}
    assert groups["IM-0003-0001"] == groups["IM-0900-0001"]


def test_groups_connected_by_a_chain_of_duplicates_are_merged(films: Path) -> None:
    folder = films / "train" / "NORMAL"
    shutil.copy(folder / "IM-0005-0001.jpeg", folder / "IM-0003-0002.jpeg")
    shutil.copy(folder / "IM-0003-0001.jpeg", folder / "IM-0002-0002.jpeg")
    groups = {example.path.stem: example.group for example in chest_xray.find(films)}
    assert groups["IM-0005-0001"] == groups["IM-0003-0001"] == groups["IM-0002-0001"]


def test_an_image_with_both_labels_is_rejected(films: Path) -> None:
    folder = films / "train"
    shutil.copy(folder / "NORMAL" / "IM-0003-0001.jpeg", folder / "PNEUMONIA" / "person900_virus_1.jpeg")
    with pytest.raises(DataError, match=r"IM-0003-0001.jpeg \(normal\).*person900_virus_1.jpeg \(pneumonia\)"):
        chest_xray.find(films)


@pytest.mark.parametrize("missing", ["", "train/NORMAL", "val/PNEUMONIA"])
def test_a_missing_folder_is_reported(films: Path, missing: str) -> None:
    shutil.rmtree(films / missing)
    with pytest.raises(DataError, match=str(films / missing)):
        chest_xray.find(films)


def test_a_folder_without_films_is_rejected(tmp_path: Path) -> None:
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="contains no films"):
        chest_xray.find(tmp_path)


def test_an_unknown_data_set_is_reported_with_the_available_ones(films: Path) -> None:
    with pytest.raises(SettingsError, match=r"'mnist'.*chest_xray"):
        datasets.find("mnist", films)


def test_the_real_data_set_has_the_published_counts(real: Path) -> None:
    result = chest_xray.find(real)
    assert sum(example.label == "normal" for example in result) == 1349
    assert sum(example.label == "pneumonia" for example in result) == 3883
