from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from training import datasets
from training.datasets import chest_xray
from training.errors import DataError, SettingsError


@pytest.mark.parametrize(
    ("stem", "whom"),
    [
        ("person1000_bacteria_2931", "bacteria-1000"),
        ("person1000_virus_1681", "virus-1000"),
        ("person23_virus_45_1", "virus-23"),
        ("IM-0115-0001", "IM-0115"),
        ("IM-0115-0001-0002", "IM-0115"),
        ("NORMAL2-IM-0115-0001", "NORMAL2-IM-0115"),
    ],
)
def test_the_patient_is_read_from_the_name(stem: str, whom: str) -> None:
    assert chest_xray.patient(stem) == whom


def test_a_name_of_another_form_is_refused() -> None:
    with pytest.raises(DataError, match="holiday"):
        chest_xray.patient("holiday")


def test_train_and_val_are_one_pool(films: Path) -> None:
    found = chest_xray.find(films)
    assert len(found) == 40
    assert sum(example.label == "pneumonia" for example in found) == 24
    assert {example.name.split("/")[0] for example in found} == {"train", "val"}


def test_class_folders_may_lie_directly_below(films: Path) -> None:
    assert len(chest_xray.find(films / "train")) == 37


def test_the_order_does_not_depend_on_the_disk(films: Path) -> None:
    names = [example.name for example in chest_xray.find(films)]
    assert names == sorted(names)


def test_exact_duplicates_share_a_group(films: Path) -> None:
    folder = films / "train" / "NORMAL"
    shutil.copy(folder / "IM-0003-0001.jpeg", folder / "IM-0900-0001.jpeg")
    groups = {example.path.stem: example.group for example in chest_xray.find(films)}
    assert groups["IM-0003-0001"] == groups["IM-0900-0001"]


def test_groups_that_are_joined_by_a_chain_of_duplicates_are_one(films: Path) -> None:
    folder = films / "train" / "NORMAL"
    shutil.copy(folder / "IM-0005-0001.jpeg", folder / "IM-0003-0002.jpeg")
    shutil.copy(folder / "IM-0003-0001.jpeg", folder / "IM-0002-0002.jpeg")
    groups = {example.path.stem: example.group for example in chest_xray.find(films)}
    assert groups["IM-0005-0001"] == groups["IM-0003-0001"] == groups["IM-0002-0001"]


def test_one_image_under_two_labels_is_refused(films: Path) -> None:
    folder = films / "train"
    shutil.copy(folder / "NORMAL" / "IM-0003-0001.jpeg", folder / "PNEUMONIA" / "person900_virus_1.jpeg")
    with pytest.raises(DataError, match=r"IM-0003-0001.jpeg \(normal\).*person900_virus_1.jpeg \(pneumonia\)"):
        chest_xray.find(films)


@pytest.mark.parametrize("missing", ["", "train/NORMAL", "val/PNEUMONIA"])
def test_a_missing_folder_is_named(films: Path, missing: str) -> None:
    shutil.rmtree(films / missing)
    with pytest.raises(DataError, match=str(films / missing)):
        chest_xray.find(films)


def test_a_folder_without_films_is_refused(tmp_path: Path) -> None:
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="holds no film"):
        chest_xray.find(tmp_path)


def test_an_unknown_data_set_is_named_with_the_known_ones(films: Path) -> None:
    with pytest.raises(SettingsError, match=r"'mnist'.*chest_xray"):
        datasets.find("mnist", films)


def test_the_real_films_are_those_that_the_facts_count(real: Path) -> None:
    found = chest_xray.find(real)
    assert sum(example.label == "normal" for example in found) == 1349
    assert sum(example.label == "pneumonia" for example in found) == 3883
