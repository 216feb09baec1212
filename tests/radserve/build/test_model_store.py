"""Tests of the index of a model store."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radserve.build.model_store import FILE, UNTRAINED, Entry, Index, enter, read, require_archives, write
from radserve.errors import ArchiveError, StoreIndexError


def entry(name: str, version: str) -> Entry:
    return Entry(name=name, version=version, file=f"{name}-{version}.mar", sha256="0" * 64, size=1, inputs="1" * 64)


def test_an_index_is_read_as_written(tmp_path: Path) -> None:
    index = Index().put(entry("b", "1.0.0")).put(entry("a", "2.0.0"))
    write(tmp_path, index)
    assert read(tmp_path) == index
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_an_entry_replaces_only_the_same_version() -> None:
    index = Index().put(entry("a", "1.0.0")).put(entry("a", "1.1.0")).put(entry("a", "1.0.0"))
    assert [item.version for item in index.archives] == ["1.0.0", "1.1.0"]


def test_the_newest_version_by_number_is_the_default() -> None:
    index = Index().put(entry("a", "1.10.0")).put(entry("a", "1.9.0"))
    newest = index.find("a")
    assert newest is not None
    assert newest.version == "1.10.0"
    assert index.find("a", "3.0.0") is None
    assert index.find("b") is None


def test_a_store_without_an_index_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path) == Index()


def test_a_store_must_be_a_folder_with_archives(tmp_path: Path) -> None:
    for name, reason in (
        ("gone", "gone: no such folder. Build the archives: radserve build --missing --model-store "),
        ("empty", "empty: the model store is empty. Build the archives: "),
        ("file", "file: not a folder; choose another --model-store."),
        ("x" * 300, "File name too long."),
    ):
        if name == "empty":
            (tmp_path / name).mkdir()
        elif name == "file":
            (tmp_path / name).touch()
        with pytest.raises(StoreIndexError, match=reason):
            require_archives(tmp_path / name)
    write(tmp_path, Index().put(entry("a", "1.0.0")))
    require_archives(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"archives": [{"name": "a"}]}', '{"archives": [], "more": 1}'])
def test_an_invalid_index_is_reported_with_a_hint(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ArchiveError, match="radserve build"):
        read(tmp_path)


def file(folder: Path, content: str) -> Path:
    path = folder / "packed"
    path.write_text(content)
    return path


def test_an_archive_replaces_another_of_its_version_only_if_allowed(tmp_path: Path) -> None:
    enter(entry("a", "1.0.0"), tmp_path, file(tmp_path, "first"))
    other = entry("a", "1.0.0").model_copy(update={"sha256": "2" * 64})
    with pytest.raises(ArchiveError, match=r"already contains a 1\.0\.0 with sha256 000"):
        enter(other, tmp_path, file(tmp_path, "second"), replace=False)
    assert (tmp_path / "a-1.0.0.mar").read_text() == "first"
    enter(other, tmp_path, file(tmp_path, "second"))
    assert (tmp_path / "a-1.0.0.mar").read_text() == "second"
    assert read(tmp_path).archives == (other,)


def test_a_trained_archive_replaces_an_untrained_one(tmp_path: Path) -> None:
    enter(entry("a", UNTRAINED), tmp_path, file(tmp_path, "untrained"))
    enter(entry("b", UNTRAINED), tmp_path, file(tmp_path, "untrained"))
    enter(entry("a", "1.0.0"), tmp_path, file(tmp_path, "trained"))
    assert [(item.name, item.version) for item in read(tmp_path).archives] == [("a", "1.0.0"), ("b", UNTRAINED)]
    assert not (tmp_path / "a-0.0.0.mar").exists()


def test_concurrent_additions_are_all_kept(tmp_path: Path) -> None:
    entries = [entry(f"a-{number}", "1.0.0") for number in range(24)]
    files = [tmp_path / f"packed-{number}" for number in range(24)]
    for path in files:
        path.touch()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: enter(pair[0], tmp_path, pair[1]), zip(entries, files, strict=True)))
    assert set(read(tmp_path).archives) == set(entries)


def test_an_index_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "index.json").mkdir()
    with pytest.raises(ArchiveError, match=r"index\.json: Is a directory\.$"):
        read(tmp_path)


def test_a_store_that_is_not_writable_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="not writable: No such file"):
        enter(entry("a", "1.0.0"), tmp_path / "nowhere", file(tmp_path, "packed"))
