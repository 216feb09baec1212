"""Tests of packing and verifying archives."""

import shutil
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from radserve.build import mar
from radserve.build import model_store as store_index
from radserve.errors import ArchiveError
from tests.repack import NAME, entry_of, repack, with_recipe, without


@pytest.fixture
def broken_store(store: Path, tmp_path: Path) -> Path:
    """Copy of the store, for tests that damage it."""
    return Path(shutil.copytree(store, tmp_path / "store"))


def test_a_valid_archive_passes_verification(store: Path) -> None:
    assert mar.verify(entry_of(store), store).name == NAME


def test_one_flipped_byte_fails_verification(broken_store: Path) -> None:
    entry = entry_of(broken_store)
    path = broken_store / entry.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"has sha256 .* the index has"):
        mar.verify(entry, broken_store)


def test_a_truncated_or_missing_archive_fails_verification(broken_store: Path) -> None:
    entry = entry_of(broken_store)
    path = broken_store / entry.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="bytes, the index has"):
        mar.verify(entry, broken_store)
    path.unlink()
    with pytest.raises(ArchiveError, match="missing"):
        mar.verify(entry, broken_store)


@pytest.mark.parametrize("name", ["program.pt2", "archive.yaml", "sample.json", "MAR-INF/MANIFEST.json"])
def test_a_file_missing_from_an_archive_is_reported(broken_store: Path, name: str) -> None:
    entry = repack(broken_store, without(name))
    with pytest.raises(ArchiveError, match=name):
        mar.verify(entry, broken_store)


def test_an_unknown_key_in_the_recipe_of_an_archive_is_reported(broken_store: Path) -> None:
    entry = repack(broken_store, with_recipe(colour="gray"))
    with pytest.raises(ArchiveError, match="unknown key 'colour'"):
        mar.verify(entry, broken_store)


def test_an_archive_that_inflates_fails_verification_without_being_read(broken_store: Path) -> None:
    entry = entry_of(broken_store)
    path = broken_store / entry.file
    with zipfile.ZipFile(path) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in contents.items():
            packed.writestr(name, data)
        bomb = zipfile.ZipInfo("bomb")
        bomb.compress_type = zipfile.ZIP_DEFLATED
        with packed.open(bomb, "w") as stream:
            for _ in range(100):
                stream.write(bytes(1 << 20))
    entry = entry.model_copy(update={"sha256": store_index.sha256(path), "size": path.stat().st_size})
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="unpacks to"):
            mar.verify(entry, broken_store)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(ArchiveError, match="unpacks to"):
        mar.manifest(path)


@pytest.mark.parametrize("name", ["archive.yaml", "MAR-INF/MANIFEST.json"])
@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"[]", b"\xff", b" " * 1_100_000])
def test_an_invalid_document_in_an_archive_fails_verification(broken_store: Path, name: str, content: bytes) -> None:
    entry = repack(broken_store, lambda contents: contents.update({name: content}))
    with pytest.raises(ArchiveError, match=entry.name):
        mar.verify(entry, broken_store)


def test_an_archive_listed_under_another_version_fails_verification(broken_store: Path) -> None:
    entry = repack(broken_store, with_recipe(version="9.9.9"))
    with pytest.raises(ArchiveError, match=r"its recipe chest-xray-cnn 9\.9\.9"):
        mar.verify(entry, broken_store)
