"""A store in a folder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from radserve.build import mar
from radserve.errors import ArchiveError, CorruptDataError, IndexConflictError, StoreError
from radserve.store import open_store
from radserve.store.folder import Folder
from tests.conftest import ROOT
from tests.radserve.store.archives import enter, make


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_was_pushed_is_pulled(tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=3_000_000)
    store = open_store(str(tmp_path / "store"))
    seen: list[tuple[int, int]] = []
    assert store.push(entry, tmp_path / "here", lambda *pair: seen.append(pair)).fresh
    assert seen[0] == (0, entry.size)
    assert seen[-1] == (entry.size, entry.size)
    assert files(tmp_path / "store") == [".lock", f"blobs/sha256/{entry.sha256}", "index.json"]
    store.pull("chest", None, tmp_path / "there")
    mar.verify(entry, tmp_path / "there")
    assert not store.push(entry, tmp_path / "here").fresh
    assert not store.fetch("chest", None, tmp_path / "there").fresh


def test_others_may_read_a_store(tmp_path: Path) -> None:
    """A web server may show it."""
    entry = make(tmp_path / "here")
    open_store(str(tmp_path / "store")).push(entry, tmp_path / "here")
    for name in ("index.json", f"blobs/sha256/{entry.sha256}"):
        assert (tmp_path / "store" / name).stat().st_mode & 0o444 == 0o444


def test_the_newest_version_is_pulled_unless_one_is_named(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        store.push(make(tmp_path / "here", version=version), tmp_path / "here")
    assert store.pull("chest", None, tmp_path / "there").version == "1.10.0"
    assert store.pull("chest", "1.2.0", tmp_path / "there").version == "1.2.0"
    with pytest.raises(StoreError, match=r"holds chest as 1\.2\.0, 1\.9\.0, 1\.10\.0, not as 3\.0\.0"):
        store.pull("chest", "3.0.0", tmp_path / "there")
    with pytest.raises(StoreError, match="holds no 'brain', but chest"):
        store.pull("brain", None, tmp_path / "there")


def test_an_empty_store_is_said(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    assert store.entries() == ()
    with pytest.raises(StoreError, match="holds no archive yet; publish one"):
        store.pull("chest", None, tmp_path / "there")
    assert not (tmp_path / "store").exists()


def test_what_the_model_store_has_with_other_bytes_is_not_replaced(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.push(make(tmp_path / "here"), tmp_path / "here")
    held = make(tmp_path / "there", content=1)
    with pytest.raises(StoreError, match=f"holds chest 1.0.0 with sha256 {held.sha256}"):
        store.pull("chest", None, tmp_path / "there")
    mar.verify(held, tmp_path / "there")


def test_an_archive_of_the_model_store_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    entry = make(tmp_path / "here")
    store.push(entry, tmp_path / "here")
    store.pull("chest", None, tmp_path / "there")
    (tmp_path / "there" / entry.file).write_bytes(b"damaged")
    assert store.fetch("chest", None, tmp_path / "there").fresh
    mar.verify(entry, tmp_path / "there")


def test_what_is_no_archive_is_neither_pushed_nor_left_by_a_pull(tmp_path: Path) -> None:
    here, store = tmp_path / "here", open_store(str(tmp_path / "store"))
    here.mkdir()
    (here / "chest-1.0.0.mar").write_bytes(b"nothing")
    entry = enter(here, "chest", "1.0.0", "chest-1.0.0.mar")
    with pytest.raises(ArchiveError, match="invalid archive"):
        store.push(entry, here)
    assert not (tmp_path / "store").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("radserve.store.push.mar.verify", lambda *_: None)
        store.push(entry, here)
    with pytest.raises(StoreError, match="is no archive that can be served"):
        store.pull("chest", None, tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == []


def test_a_blob_that_was_damaged_is_refused_and_replaced_by_the_next_push(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    entry = make(tmp_path / "here")
    store.push(entry, tmp_path / "here")
    blob = tmp_path / "store" / "blobs" / "sha256" / entry.sha256
    blob.write_bytes(bytes(entry.size))
    with pytest.raises(CorruptDataError, match="twice in a row"):
        store.pull("chest", None, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
    assert not store.push(entry, tmp_path / "here").fresh
    assert not store.verify().wrong


def test_a_push_that_was_killed_leaves_one_hidden_file_that_the_next_one_uses(tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=3_000_000)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from radserve.build import model_store as index; from radserve.store import open_store\n"
        "here = Path(sys.argv[1]); (entry,) = index.read(here).archives\n"
        "kill = lambda done, total: done > 1_500_000 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_store(sys.argv[2]).push(entry, here, kill)"
    )
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "here", store], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert files(store) == [f"blobs/sha256/.{entry.sha256}.part"]
    open_store(str(store)).push(entry, tmp_path / "here")
    assert files(store) == [".lock", f"blobs/sha256/{entry.sha256}", "index.json"]


def test_a_file_that_changes_while_it_is_pushed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"other")
    with pytest.raises(CorruptDataError, match="changed while it was pushed"):
        Folder(tmp_path / "store").put("0" * 64, tmp_path / "file", lambda *_: None)
    assert files(tmp_path / "store") == []


def test_an_index_is_written_by_him_alone_who_read_the_last_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "store")
    folder.write_index(b"1", None)
    with pytest.raises(IndexConflictError):
        folder.write_index(b"2", None)
    held = folder.read_index()
    assert held is not None
    folder.write_index(b"2", held.tag)
    with pytest.raises(IndexConflictError):
        folder.write_index(b"3", held.tag)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        open_store(str(tmp_path / "store")).push(make(tmp_path / "here"), tmp_path / "here")


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="store"):
        open_store(str(tmp_path / "store")).push(make(tmp_path / "here"), tmp_path / "here")


def test_a_full_disk_is_said_of_the_model_store_and_what_came_is_kept(tmp_path: Path) -> None:
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
