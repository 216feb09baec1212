"""Rejection of an index that is older than one seen before."""

import shutil
from pathlib import Path

import pytest

from radserve.errors import StoreError
from radserve.store import open_store
from radserve.store.stale_index import FILE
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Pair, run


@pytest.fixture
def url(tmp_path: Path, pair: Pair) -> str:
    """Create a signed store with two index versions, the first kept as old.json, and pull with the second."""
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url, signing_key=pair.private).push(make(here), here)
    shutil.copy(tmp_path / "store" / "index.json", tmp_path / "old.json")
    open_store(url, signing_key=pair.private).push(make(here, version="1.1.0"), here)
    assert open_store(url, public_keys=pair.public).pull("chest", None, tmp_path / "there").archive.version == "1.1.0"
    return url


def test_an_older_signed_index_is_rejected(url: str, tmp_path: Path, pair: Pair) -> None:
    shutil.copy(tmp_path / "old.json", tmp_path / "store" / "index.json")
    store = open_store(url, public_keys=pair.public)
    with pytest.raises(StoreError, match=r"its index has serial 1, .* already used serial 2.*--accept-older"):
        store.pull("chest", None, tmp_path / "there")
    store.pull("chest", None, tmp_path / "elsewhere")
    options = ("--store", url, "--model-store", tmp_path / "there", "--public-key", pair.public)
    assert "--accept-older" in run("pull", "chest", *options, code=1).stderr
    run("pull", "chest", "--accept-older", *options)
    run("pull", "chest", *options)


def test_another_index_with_the_same_serial_is_rejected(url: str, tmp_path: Path, pair: Pair) -> None:
    shutil.copy(tmp_path / "old.json", tmp_path / "store" / "index.json")
    open_store(url, signing_key=pair.private).push(make(tmp_path / "here", "brain"), tmp_path / "here")
    with pytest.raises(StoreError, match=r"serial 2, .* already used serial 2"):
        open_store(url, public_keys=pair.public).pull("brain", None, tmp_path / "there")


def test_an_index_whose_signature_is_not_checked_is_not_recorded(url: str, tmp_path: Path) -> None:
    open_store(url).pull("chest", None, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / FILE).exists()


def test_an_invalid_record_is_reported(url: str, tmp_path: Path, pair: Pair) -> None:
    (tmp_path / "there" / FILE).write_text("{")
    with pytest.raises(StoreError, match="Delete it if you trust"):
        open_store(url, public_keys=pair.public).pull("chest", None, tmp_path / "there")
