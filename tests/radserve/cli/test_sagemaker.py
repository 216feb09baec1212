from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radserve.build import model_store as store_index
from radserve.cli import sagemaker
from radserve.errors import ArchiveError
from radserve.torchserve.verified_models import select


@pytest.fixture
def unpacked(store: Path, tmp_path: Path) -> Path:
    """Hold what SageMaker unpacked: the archive alone."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in store.glob("*.mar"):
        shutil.copy2(file, folder)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_an_archive_alone_is_served(unpacked: Path, scratch: Path) -> None:
    found, name = sagemaker.store(unpacked, scratch)
    (served,) = select(found, [])
    assert served.entry.name == name == "chest-xray-cnn"


def test_an_archive_with_its_index_has_to_be_what_that_says(store: Path, unpacked: Path, scratch: Path) -> None:
    shutil.copy2(store / store_index.FILE, unpacked)
    (file,) = unpacked.glob("*.mar")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    found, _ = sagemaker.store(unpacked, scratch)
    with pytest.raises(ArchiveError, match="has sha256"):
        select(found, [])


def test_an_archive_that_the_index_does_not_list_is_refused(unpacked: Path, scratch: Path) -> None:
    store_index.write(unpacked, store_index.Index())
    with pytest.raises(ArchiveError, match=r"not listed in the index\.json beside it"):
        sagemaker.store(unpacked, scratch)


def test_what_was_unpacked_is_left_as_it_is(unpacked: Path, scratch: Path) -> None:
    before = {file.name: file.read_bytes() for file in unpacked.iterdir()}
    sagemaker.store(unpacked, scratch)
    assert {file.name: file.read_bytes() for file in unpacked.iterdir()} == before


def test_no_archive_is_said(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(ArchiveError, match=r"exactly one archive \(\.mar\), found none"):
        sagemaker.store(tmp_path, scratch)


def test_two_archives_are_said(unpacked: Path, scratch: Path) -> None:
    (unpacked / "other.mar").write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"found chest-xray-cnn-1\.0\.0\.mar, other\.mar"):
        sagemaker.store(unpacked, scratch)


def test_what_is_no_archive_is_said(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "model.mar").write_bytes(b"PK")
    with pytest.raises(ArchiveError, match="is no archive"):
        sagemaker.store(tmp_path, scratch)
