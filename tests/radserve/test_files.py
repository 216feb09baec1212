"""Tests of atomic file replacement."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from radserve.files import write_atomically


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize("content", [b"\x00\xff", "größer\n", ""])
def test_writes_bytes_and_utf8_text(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "file"
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)


def test_a_new_file_is_private(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "secret")
    assert mode(tmp_path / "file") == 0o600


@pytest.mark.usefixtures("umask")
def test_the_given_mode_applies_regardless_of_the_umask(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "public", mode=0o644)
    assert mode(tmp_path / "file") == 0o644


@pytest.mark.parametrize(("given", "expected"), [(None, 0o640), (0o604, 0o604)])
def test_a_replaced_file_keeps_its_mode_unless_one_is_given(tmp_path: Path, given: int | None, expected: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    write_atomically(path, "new", mode=given)
    assert path.read_text() == "new"
    assert mode(path) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_keeps_the_owner_of_a_replaced_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 1234, 5678)
    write_atomically(path, "new", mode=0o644)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)


def test_an_open_reader_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as reader:
        write_atomically(path, "new content")
        assert reader.read() == "old"
    assert path.read_text() == "new content"


def test_a_symbolic_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, "new")
    assert (link.read_text(), link.is_symlink(), target.read_text()) == ("new", False, "old")


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_replacement_removes_the_temporary_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "child").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_atomically(folder, "content")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", "content")
