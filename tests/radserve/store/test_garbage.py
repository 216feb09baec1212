"""Garbage collection."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from radserve.errors import StoreError
from radserve.store import open_store
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Aws, run

DAY = timedelta(days=1)
OTHER = "0" * 64


def age(path: Path, days: float = 2) -> None:
    moment = time.time() - days * 86400
    os.utime(path, (moment, moment))


def test_old_unreferenced_files_are_deleted_from_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = open_store(str(root))
    entry = make(tmp_path / "here")
    store.push(entry, tmp_path / "here")
    blobs = root / "blobs" / "sha256"
    for name in (OTHER, "1" * 64, f".{OTHER}.part", f"{OTHER}#1"):
        (blobs / name).write_bytes(b"garbage")
    (root / ".index.json-x.part").write_bytes(b"")
    old = (blobs / OTHER, blobs / f".{OTHER}.part", blobs / f"{OTHER}#1", root / ".index.json-x.part")
    for path in (*old, blobs / entry.sha256):
        age(path)
    dry_run = store.collect_garbage(DAY, dry_run=True)
    assert [item.sha256 for item in dry_run.blobs] == [OTHER]
    assert {item.key for item in dry_run.uploads} == {str(path.relative_to(root)) for path in old[1:]}
    assert (blobs / OTHER).exists()
    assert store.collect_garbage(DAY) == dry_run
    assert sorted(path.name for path in blobs.iterdir()) == sorted(["1" * 64, entry.sha256])
    assert not store.verify().failures
    assert [item.sha256 for item in store.collect_garbage(timedelta(0)).blobs] == ["1" * 64]
    assert not store.verify().failures


def test_old_unreferenced_blobs_and_uploads_are_deleted_from_a_bucket(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    s3, prefix = aws.client("s3"), "radserve/blobs/sha256"
    s3.put_object(Bucket=aws.bucket, Key=f"{prefix}/{OTHER}", Body=b"garbage")
    s3.create_multipart_upload(Bucket=aws.bucket, Key=f"{prefix}/{OTHER}")
    assert store.collect_garbage(DAY, dry_run=True).blobs == ()
    time.sleep(1.1)  # S3 stores times in seconds
    dry_run = run("gc", "--store", aws.store, "--older-than", "0m", "--dry-run")
    assert "Would delete 1 blobs" in dry_run.stderr
    assert len(aws.keys()) == 3
    output = run("gc", "--store", aws.store, "--older-than", "0m")
    assert f"sha256 {OTHER}" in output.stdout
    assert "Deleted 1 blobs (0.0 MB) and 1 unfinished pushes." in output.stderr
    assert aws.keys() == [f"blobs/sha256/{entry.sha256}", "index.json"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=aws.bucket)


def test_nothing_is_deleted_if_the_index_is_missing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.push(make(tmp_path / "here"), tmp_path / "here")
    (tmp_path / "store" / "index.json").unlink()
    with pytest.raises(StoreError, match="1 blobs but no index"):
        store.collect_garbage(timedelta(0))
    assert len(list((tmp_path / "store" / "blobs" / "sha256").iterdir())) == 1


def test_a_push_stores_an_old_blob_again(tmp_path: Path) -> None:
    """A concurrent garbage collection then finds it young."""
    entry = make(tmp_path / "here")
    blob = tmp_path / "store" / "blobs" / "sha256" / entry.sha256
    blob.parent.mkdir(parents=True)
    blob.write_bytes((tmp_path / "here" / entry.file).read_bytes())
    age(blob)
    open_store(str(tmp_path / "store")).push(entry, tmp_path / "here")
    assert time.time() - blob.stat().st_mtime < 60


def test_a_blob_deleted_before_the_index_names_it_is_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"))
    entry = make(tmp_path / "here")
    write = store.storage.write_index

    def delete_and_write(data: bytes, version: Any) -> None:
        store.storage.delete(entry.sha256)
        write(data, version)

    monkeypatch.setattr(store.storage, "write_index", delete_and_write)
    store.push(entry, tmp_path / "here")
    assert not store.verify().failures
