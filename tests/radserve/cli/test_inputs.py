import io
import sys
from pathlib import Path

import pytest

from radserve.cli.inputs import find
from radserve.errors import InvalidCallError


def _files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_folder_is_sorted_and_other_files_are_counted_and_named(tmp_path: Path) -> None:
    wanted = ["1.2.840.113", "IM-0001", "a.PNG", "sub/b.dcm", "sub/deep/c.jpeg"]
    _files(tmp_path, *wanted, "notes.txt", "DICOMDIR", "sub/table.csv", "z.pdf", ".hidden.png", ".cache/d.png")
    inputs = find([str(tmp_path)])
    assert sorted(source.name for source in inputs.sources) == [str(tmp_path / name) for name in wanted]
    assert inputs.sources == find([str(tmp_path)]).sources
    assert inputs.notes == (f"{tmp_path}: 5 images; 4 other files ignored: DICOMDIR, notes.txt, z.pdf and 1 more.",)


def test_a_named_file_is_always_an_image(tmp_path: Path) -> None:
    _files(tmp_path, "film.txt", ".film.png")
    names = [str(tmp_path / "film.txt"), str(tmp_path / ".film.png")]
    assert [source.name for source in find(names).sources] == names


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    _files(tmp_path, "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    assert [source.name for source in find([str(tmp_path)]).sources] == [str(tmp_path / "a.png")]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    _files(tmp_path, "a.png")
    with pytest.raises(InvalidCallError, match=r"b\.png: no such file or folder"):
        find([str(tmp_path / "a.png"), str(tmp_path / "b.png")])


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    _files(tmp_path, "notes.txt")
    with pytest.raises(InvalidCallError, match=r"no image found\. .*\.dcm"):
        find([str(tmp_path)])


def test_standard_input_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"0123456789")))
    (source,) = find(["-"]).sources
    assert source.content(4) == b"01234"
    with pytest.raises(InvalidCallError, match="only once"):
        find(["-", "-"])


def test_pictures_keep_the_relative_path_of_their_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _files(tmp_path, "case/sub/b.DCM", "case/1.2.840.113", "film.tar.png", "notes.txt")
    sources = find(["case", "film.tar.png", "notes.txt", "-"]).sources
    stems = ["1.2.840.113", "film.tar", "notes.txt", "stdin", "sub/b"]
    assert sorted(str(source.stem) for source in sources) == stems
