"""Archive stores in folders."""

import errno
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from radserve.build import mar
from radserve.errors import ArchiveError, CorruptDataError, IndexConflictError, StoreError
from radserve.store import open_store
from radserve.store.backends import open_storage
from tests.conftest import ROOT
from tests.radserve.store.archives import enter, make


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_pull_returns_what_push_published(tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=3_000_000)
    store = open_store(str(tmp_path / "store"))
    calls: list[tuple[int, int]] = []
    assert store.push(entry, tmp_path / "here", lambda *call: calls.append(call)).fresh
    assert calls[0] == (0, entry.size)
    assert calls[-1] == (entry.size, entry.size)
    assert files(tmp_path / "store") == [".lock", f"blobs/sha256/{entry.sha256}", "index.json"]
    store.pull("chest", None, tmp_path / "there")
    mar.verify(entry, tmp_path / "there")
    assert not store.push(entry, tmp_path / "here").fresh
    assert not store.pull("chest", None, tmp_path / "there").fresh


def test_files_are_readable_by_a_web_server_and_by_torchserve(tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    store = open_store(str(tmp_path / "store"))
    store.push(entry, tmp_path / "here")
    store.pull("chest", None, tmp_path / "there")
    for name in ("store/index.json", f"store/blobs/sha256/{entry.sha256}", f"there/{entry.file}", "there/index.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


def test_pull_without_a_version_takes_the_newest(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        store.push(make(tmp_path / "here", version=version), tmp_path / "here")
    assert store.pull("chest", None, tmp_path / "there").archive.version == "1.10.0"
    assert store.pull("chest", "1.2.0", tmp_path / "there").archive.version == "1.2.0"
    with pytest.raises(StoreError, match=r"no version 3\.0\.0\. Available: 1\.2\.0, 1\.9\.0, 1\.10\.0"):
        store.pull("chest", "3.0.0", tmp_path / "there")
    with pytest.raises(StoreError, match=r"unknown archive 'brain'\. Available: chest"):
        store.pull("brain", None, tmp_path / "there")


def test_reading_an_empty_store_does_not_create_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    assert store.entries() == ()
    with pytest.raises(StoreError, match="empty; publish an archive"):
        store.pull("chest", None, tmp_path / "there")
    assert store.collect_garbage(timedelta(0)).blobs == ()
    assert not (tmp_path / "store").exists()


def test_pull_does_not_replace_other_content_of_the_same_version(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.push(make(tmp_path / "here"), tmp_path / "here")
    existing = make(tmp_path / "there", content=1)
    with pytest.raises(StoreError, match=f"holds chest 1.0.0 with sha256 {existing.sha256}"):
        store.pull("chest", None, tmp_path / "there")
    mar.verify(existing, tmp_path / "there")


def test_pull_replaces_a_damaged_file_of_the_model_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    entry = make(tmp_path / "here")
    store.push(entry, tmp_path / "here")
    store.pull("chest", None, tmp_path / "there")
    (tmp_path / "there" / entry.file).write_bytes(b"damaged")
    assert store.pull("chest", None, tmp_path / "there").fresh
    mar.verify(entry, tmp_path / "there")


def test_invalid_archives_are_neither_pushed_nor_pulled(tmp_path: Path) -> None:
    here, store = tmp_path / "here", open_store(str(tmp_path / "store"))
    here.mkdir()
    (here / "chest-1.0.0.mar").write_bytes(b"nothing")
    entry = enter(here, "chest", "1.0.0", "chest-1.0.0.mar")
    with pytest.raises(ArchiveError, match=r"chest-1\.0\.0\.mar"):
        store.push(entry, here)
    assert not (tmp_path / "store").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("radserve.build.mar.verify", lambda *_: None)
        store.push(entry, here)
    with pytest.raises(StoreError, match="published in a broken state"):
        store.pull("chest", None, tmp_path / "there")
    assert files(tmp_path / "there") == []


def test_a_damaged_blob_is_rejected_and_replaced_by_the_next_push(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    entry = make(tmp_path / "here")
    store.push(entry, tmp_path / "here")
    blob = tmp_path / "store" / "blobs" / "sha256" / entry.sha256
    blob.write_bytes(bytes(entry.size))
    with pytest.raises(CorruptDataError, match="also in a second attempt"):
        store.pull("chest", None, tmp_path / "there")
    assert files(tmp_path / "there") == []
    assert not store.push(entry, tmp_path / "here").fresh
    assert not store.verify().failures


def test_a_killed_push_publishes_nothing_and_garbage_collection_removes_its_file(tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=30_000_000)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from radserve.build import model_store as index; from radserve.store import open_store\n"
        "here = Path(sys.argv[1]); (entry,) = index.read(here).archives\n"
        "kill = lambda done, total: done > 25_000_000 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_store(sys.argv[2]).push(entry, here, kill)"
    )
    url = tmp_path / "store"
    process = subprocess.run([sys.executable, "-c", code, tmp_path / "here", url], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    assert files(url) == [f"blobs/sha256/{entry.sha256}#1"]
    store = open_store(str(url))
    store.push(entry, tmp_path / "here")
    time.sleep(0.01)
    (upload,) = store.collect_garbage(timedelta(0)).uploads
    assert upload.key == f"blobs/sha256/{entry.sha256}#1"
    assert files(url) == [".lock", f"blobs/sha256/{entry.sha256}", "index.json"]


def test_a_file_that_changes_during_the_push_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"other")
    with pytest.raises(CorruptDataError, match="changed during the push"):
        open_storage(str(tmp_path / "store")).put("0" * 64, tmp_path / "file", lambda *_: None)
    assert files(tmp_path / "store") == []


def test_the_index_is_written_only_over_the_version_that_was_read(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "store"))
    storage.write_index(b"1", None)
    with pytest.raises(IndexConflictError):
        storage.write_index(b"2", None)
    stored = storage.read_index()
    assert stored is not None
    storage.write_index(b"2", stored.version)
    with pytest.raises(IndexConflictError):
        storage.write_index(b"3", stored.version)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        open_store(str(tmp_path / "store")).push(make(tmp_path / "here"), tmp_path / "here")


def test_a_file_instead_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match=str(tmp_path / "store")):
        open_store(str(tmp_path / "store")).push(make(tmp_path / "here"), tmp_path / "here")


def test_after_a_full_disk_the_next_pull_continues(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.push(make(tmp_path / "here", size=3_000_000), tmp_path / "here")

    def full(done: int, total: int) -> None:
        if done > 1_500_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StoreError, match="there: No space left on device"):
        store.pull("chest", None, tmp_path / "there", full)
    assert [path.name[:6] for path in (tmp_path / "there").iterdir()] == [".pull-"]
    starts: list[int] = []
    store.pull("chest", None, tmp_path / "there", lambda done, total: starts.append(done))
    assert starts[0] > 1_500_000
