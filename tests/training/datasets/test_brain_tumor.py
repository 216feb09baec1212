from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.datasets import brain_tumor, near_duplicates
from training.datasets.split import by_group
from training.errors import DataError


def _slice(path: Path, seed: int, side: int = 64, quality: int = 90) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=quality)


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """Twelve slices, and a second, smaller and coarser file of six of them."""
    for number in range(12):
        folder = tmp_path / ("yes" if number % 2 else "no")
        _slice(folder / f"y{number}.jpg", number)
        if number < 6:
            _slice(folder / f"again {number}.jpg", number, side=48, quality=50)
    return tmp_path


def test_labels_are_the_folders_and_groups_the_files(slices: Path) -> None:
    names = sorted(path.relative_to(slices).as_posix() for path in slices.glob("*/*"))
    (slices / "groups.csv").write_text("file,group\n" + "".join(f"{name},g{name[-5]}\n" for name in names))
    found = brain_tumor.find(slices)
    assert [example.name for example in found] == names
    assert {example.label for example in found if example.name.startswith("yes")} == {"tumour"}
    assert all(example.group == f"g{example.name[-5]}" for example in found)


def test_without_groups_files_that_look_alike_are_one_group(slices: Path) -> None:
    found = {example.name: example.group for example in brain_tumor.find(slices)}
    assert len(set(found.values())) == 12
    assert all(
        found[f"{'yes' if n % 2 else 'no'}/again {n}.jpg"] == found[f"{'yes' if n % 2 else 'no'}/y{n}.jpg"]
        for n in range(6)
    )


def test_no_group_is_on_two_sides(slices: Path) -> None:
    found = brain_tumor.find(slices)
    sides = by_group(found, 0.3, 1)
    train, validation = ({found[place].group for place in side} for side in (sides.train, sides.validation))
    assert train
    assert validation
    assert not train & validation


def test_a_file_without_a_group_is_named(slices: Path) -> None:
    (slices / "groups.csv").write_text("file,group\nno/y0.jpg,1\n")
    with pytest.raises(DataError, match=r"does not name no/again 0\.jpg"):
        brain_tumor.find(slices)


def test_groups_of_another_form_are_refused(slices: Path) -> None:
    (slices / "groups.csv").write_text("name;patient\n")
    (slices / "groups.csv").write_text("name,patient\na,b\n")
    with pytest.raises(DataError, match="columns file and group"):
        brain_tumor.find(slices)


def test_one_slice_under_both_labels_is_refused(slices: Path) -> None:
    (slices / "yes" / "copy.jpg").write_bytes((slices / "no" / "y0.jpg").read_bytes())
    with pytest.raises(DataError, match="several labels"):
        brain_tumor.find(slices)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="yes and no"):
        brain_tumor.find(tmp_path)


def test_a_broken_slice_is_named(slices: Path) -> None:
    (slices / "no" / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken\.jpg: not a readable image"):
        brain_tumor.find(slices)


def test_looks_part_no_published_group(shared: Path) -> None:
    """What `near.ALIKE` says of itself."""
    known = brain_tumor.find(shared / "brain_tumor")
    alike = near_duplicates.groups([example.path for example in known])
    of: dict[str, set[str]] = {}
    for example, group in zip(known, alike, strict=True):
        of.setdefault(example.group, set()).add(group)
    assert all(len(groups) == 1 for groups in of.values())
    assert len(set(alike)) > 0.8 * len(of)
