"""Labelled images of a site."""

from pathlib import Path

import pytest

from radserve.errors import SiteProfileError
from radserve.site.images import LabelledImage, find, require_enough

LABELS = ("dark", "bright")


def put(folder: Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_a_folder_has_labels_patients_and_files(tmp_path: Path) -> None:
    put(tmp_path, **{"dark/p1/a.png": "1", "dark/p1/b.png": "2", "bright/c.png": "3", "dark/.hidden": "4"})
    assert find(tmp_path, LABELS) == [
        LabelledImage(tmp_path / "dark/p1/a.png", "dark", "p1"),
        LabelledImage(tmp_path / "dark/p1/b.png", "dark", "p1"),
        LabelledImage(tmp_path / "bright/c.png", "bright", "bright/c.png"),
    ]


def test_folders_inside_that_of_a_patient_belong_to_the_patient(tmp_path: Path) -> None:
    put(tmp_path, **{"dark/p1/monday/a.png": "1", "dark/p1/tuesday/b.png": "2"})
    assert {image.patient for image in find(tmp_path, LABELS)} == {"p1"}


def test_a_folder_of_an_unknown_label_is_rejected(tmp_path: Path) -> None:
    put(tmp_path, **{"dark/a.png": "1", "Bright/b.png": "2", ".cache/c.png": "3"})
    with pytest.raises(SiteProfileError, match="unknown label 'Bright'; the model's are dark, bright"):
        find(tmp_path, LABELS)
    with pytest.raises(SiteProfileError, match="no such file or folder"):
        find(tmp_path / "missing", LABELS)


def test_a_csv_file_names_files_labels_and_patients(tmp_path: Path) -> None:
    put(tmp_path, **{"a.png": "1", "list.csv": "patient,file,label\np1,a.png,dark\n"})
    assert find(tmp_path / "list.csv", LABELS) == [LabelledImage(tmp_path / "a.png", "dark", "p1")]


def test_copies_of_an_image_of_one_patient_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, **{"dark/p1/a.png": "1", "dark/p1/b.png": "1"})
    assert [image.path.name for image in find(tmp_path, LABELS)] == ["a.png"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("file,label\na.png,dark\n", "must name the columns file, label, patient"),
        ("file,label,patient\na.png,cat,p1\n", "unknown label 'cat'; the model's are dark, bright"),
        ("file,label,patient\nb.png,dark,p1\n", "b.png: No such file"),
        ("file,label,patient\na.png,dark,\n", "line 2: file or patient is missing"),
        ("file,label,patient\na.png,dark,p1\ncopy.png,dark,p2\n", "the same image as .*a.png, with another label or"),
        ("file,label,patient\na.png,dark,p1\ncopy.png,bright,p1\n", "the same image as .*a.png, with another label or"),
    ],
)
def test_an_invalid_list_is_rejected_with_the_reason(tmp_path: Path, lines: str, message: str) -> None:
    put(tmp_path, **{"a.png": "1", "copy.png": "1", "list.csv": lines})
    with pytest.raises(SiteProfileError, match=message):
        find(tmp_path / "list.csv", LABELS)


@pytest.mark.parametrize(("dark", "bright"), [(79, 20), (81, 19), (100, 0)])
def test_too_few_images_are_refused(dark: int, bright: int) -> None:
    require_enough(["dark"] * 80 + ["bright"] * 20, LABELS, Path("x"))
    with pytest.raises(SiteProfileError, match=f"{dark} dark, {bright} bright. A profile needs 100 usable images"):
        require_enough(["dark"] * dark + ["bright"] * bright, LABELS, Path("x"))
