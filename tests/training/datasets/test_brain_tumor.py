import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.datasets import brain_tumor, duplicates
from training.errors import DataError


def _slice(path: Path, seed: int, side: int = 64, quality: int = 90) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=quality)


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """Twelve slices, six of them twice: the second file is smaller and coarser."""
    for number in range(12):
        folder = tmp_path / ("yes" if number % 2 else "no")
        _slice(folder / f"y{number}.jpg", number)
        if number < 6:
            _slice(folder / f"again {number}.jpg", number, side=48, quality=50)
    return tmp_path


def test_folders_are_labels_and_the_csv_file_has_the_groups(slices: Path) -> None:
    names = sorted(path.relative_to(slices).as_posix() for path in slices.glob("*/*"))
    (slices / "groups.csv").write_text("file,group\n" + "".join(f"{name},g{name[-5]}\n" for name in names))
    result = brain_tumor.find(slices)
    assert [example.name for example in result] == names
    assert {example.label for example in result if example.name.startswith("yes")} == {"tumour"}
    assert all(example.group == f"g{example.name[-5]}" for example in result)


def test_similar_slices_are_grouped_without_a_csv_file(slices: Path) -> None:
    result = {example.name: example.group for example in brain_tumor.find(slices)}
    assert len(set(result.values())) == 12
    assert all(
        result[f"{'yes' if n % 2 else 'no'}/again {n}.jpg"] == result[f"{'yes' if n % 2 else 'no'}/y{n}.jpg"]
        for n in range(6)
    )


def test_a_file_without_a_group_is_reported(slices: Path) -> None:
    (slices / "groups.csv").write_text("file,group\nno/y0.jpg,1\n")
    with pytest.raises(DataError, match=r"does not list no/again 0\.jpg"):
        brain_tumor.find(slices)


def test_an_invalid_groups_file_is_rejected(slices: Path) -> None:
    (slices / "groups.csv").write_text("name,patient\na,b\n")
    with pytest.raises(DataError, match="columns file and group"):
        brain_tumor.find(slices)


def test_a_slice_with_both_labels_is_rejected(slices: Path) -> None:
    (slices / "yes" / "copy.jpg").write_bytes((slices / "no" / "y0.jpg").read_bytes())
    with pytest.raises(DataError, match="different labels"):
        brain_tumor.find(slices)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="yes and no"):
        brain_tumor.find(tmp_path)


def test_a_broken_slice_is_reported(slices: Path) -> None:
    (slices / "no" / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken\.jpg: cannot be read as an image"):
        brain_tumor.find(slices)


@pytest.mark.parametrize(
    "mirror", [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180]
)
def test_a_mirrored_copy_belongs_to_the_group_of_its_original(slices: Path, mirror: Image.Transpose) -> None:
    with Image.open(slices / "no" / "y8.jpg") as original:
        original.resize((50, 60)).transpose(mirror).save(slices / "no" / "mirrored.jpg", quality=70)
    names = sorted(path.relative_to(slices).as_posix() for path in slices.glob("*/*"))
    (slices / "groups.csv").write_text("file,group\n" + "".join(f"{name},{name}\n" for name in names))
    result = {example.name: example.group for example in brain_tumor.find(slices)}
    assert result["no/mirrored.jpg"] == result["no/y8.jpg"]
    assert len(set(result.values())) == 12


def test_similar_slices_with_different_labels_share_a_group_with_a_warning(
    slices: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _slice(slices / "no" / "again 1.jpg", 1, side=48, quality=50)
    (slices / "yes" / "again 1.jpg").unlink()
    groups = {example.name: example.group for example in brain_tumor.find(slices)}
    assert groups["no/again 1.jpg"] == groups["yes/y1.jpg"]
    assert "similar images have different labels: no/again 1.jpg, yes/y1.jpg" in caplog.text


def test_similar_groups_split_no_published_group_and_join_no_labels(shared: Path) -> None:
    """Verifies the claims about `duplicates.SIMILAR`."""
    known = brain_tumor.find(shared / "brain_tumor")
    with (shared / "brain_tumor" / "groups.csv").open(newline="") as file:
        published = {row["file"]: row["group"] for row in csv.DictReader(file)}
    alike = duplicates.similar(known)
    assert all(len({example.label for example in group}) == 1 for group in alike)
    of = {example.name: number for number, group in enumerate(alike) for example in group}
    assert len({(published[name], number) for name, number in of.items()}) == len({published[name] for name in of})
    assert 300 < len(alike) < 400
