"""An old index that is shown again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radserve.errors import StoreError
from radserve.store import open_store
from radserve.store.rollback_guard import FILE
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Pair, run


@pytest.fixture
def url(tmp_path: Path, pair: Pair) -> str:
    """A signed store whose first index was kept as old.json, and the second was pulled from."""
    url, here = str(tmp_path / "store"), tmp_path / "here"
    open_store(url, signing_key=pair.private).push(make(here), here)
    shutil.copy(tmp_path / "store" / "index.json", tmp_path / "old.json")
    open_store(url, signing_key=pair.private).push(make(here, version="1.1.0"), here)
    assert open_store(url, public_keys=pair.public).pull("chest", None, tmp_path / "there").version == "1.1.0"
    return url


def test_an_older_index_is_refused_though_it_is_signed(url: str, tmp_path: Path, pair: Pair) -> None:
    shutil.copy(tmp_path / "old.json", tmp_path / "store" / "index.json")
    store = open_store(url, public_keys=pair.public)
    with pytest.raises(StoreError, match=r"its index has serial 1, .* has seen 2: .*--accept-older"):
        store.pull("chest", None, tmp_path / "there")
    store.pull("chest", None, tmp_path / "elsewhere")
    options = ("--store", url, "--model-store", tmp_path / "there", "--public-key", pair.public)
    assert "--accept-older" in run("pull", "chest", *options, code=1).stderr
    run("pull", "chest", "--accept-older", *options)
    run("pull", "chest", *options)


def test_another_index_of_the_same_serial_is_refused(url: str, tmp_path: Path, pair: Pair) -> None:
    shutil.copy(tmp_path / "old.json", tmp_path / "store" / "index.json")
    open_store(url, signing_key=pair.private).push(make(tmp_path / "here", "brain"), tmp_path / "here")
    with pytest.raises(StoreError, match=r"serial 2, .* has seen 2"):
        open_store(url, public_keys=pair.public).pull("brain", None, tmp_path / "there")


def test_a_store_that_is_not_checked_is_not_remembered(url: str, tmp_path: Path) -> None:
    open_store(url).pull("chest", None, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / FILE).exists()


def test_a_broken_memory_is_said(url: str, tmp_path: Path, pair: Pair) -> None:
    (tmp_path / "there" / FILE).write_text("{")
    with pytest.raises(StoreError, match="Remove it if you trust"):
        open_store(url, public_keys=pair.public).pull("chest", None, tmp_path / "there")
