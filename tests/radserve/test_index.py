"""The index of a model store."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.errors import ArchiveError
from radserve.index import FILE, Entry, Index, read, write


def entry(name: str, version: str) -> Entry:
    return Entry(name=name, version=version, file=f"{name}-{version}.mar", sha256="0" * 64, size=1, inputs="1" * 64)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    index = Index().put(entry("b", "1.0.0")).put(entry("a", "2.0.0"))
    write(tmp_path, index)
    assert read(tmp_path) == index
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_version_replaces_itself_and_no_other() -> None:
    index = Index().put(entry("a", "1.0.0")).put(entry("a", "1.1.0")).put(entry("a", "1.0.0"))
    assert [item.version for item in index.archives] == ["1.0.0", "1.1.0"]


def test_the_newest_version_is_the_default_and_versions_are_numbers() -> None:
    index = Index().put(entry("a", "1.10.0")).put(entry("a", "1.9.0"))
    found = index.find("a")
    assert found is not None
    assert found.version == "1.10.0"
    assert index.find("a", "3.0.0") is None
    assert index.find("b") is None


def test_a_store_without_an_index_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path) == Index()


@pytest.mark.parametrize("text", ["", "{", '{"archives": [{"name": "a"}]}', '{"archives": [], "more": 1}'])
def test_a_broken_index_is_said_with_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ArchiveError, match="radserve build"):
        read(tmp_path)
