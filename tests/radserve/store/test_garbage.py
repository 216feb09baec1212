"""Garbage of a store, and what is none."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

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


def test_old_blobs_and_files_that_nothing_names_are_removed_from_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = open_store(str(root))
    entry = make(tmp_path / "here")
    store.push(entry, tmp_path / "here")
    blobs = root / "blobs" / "sha256"
    for name in (OTHER, "1" * 64, f".{OTHER}.part"):
        (blobs / name).write_bytes(b"garbage")
    (root / ".index-x.part").write_bytes(b"")
    for path in (blobs / OTHER, blobs / f".{OTHER}.part", root / ".index-x.part", blobs / entry.sha256):
        age(path)
    tried = store.collect(DAY, dry_run=True)
    assert [item.sha256 for item in tried.blobs] == [OTHER]
    assert [item.key for item in tried.leftovers] == [".index-x.part", f"blobs/sha256/.{OTHER}.part"]
    assert (blobs / OTHER).exists()
    assert store.collect(DAY) == tried
    assert sorted(path.name for path in blobs.iterdir()) == sorted(["1" * 64, entry.sha256])
    assert not store.verify().wrong
    assert [item.sha256 for item in store.collect(timedelta(0)).blobs] == ["1" * 64]
    assert not store.verify().wrong


def test_old_blobs_and_uploads_that_nothing_names_are_removed_from_a_bucket(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    s3, prefix = aws.client("s3"), "radserve/blobs/sha256"
    s3.put_object(Bucket=aws.bucket, Key=f"{prefix}/{OTHER}", Body=b"garbage")
    s3.create_multipart_upload(Bucket=aws.bucket, Key=f"{prefix}/{OTHER}")
    young = store.collect(DAY, dry_run=True)
    assert young.blobs == ()
    time.sleep(1.1)  # S3 counts seconds
    run("gc", "--store", aws.store, "--older-than", "0m", "--dry-run")
    assert len(aws.keys()) == 3
    said = run("gc", "--store", aws.store, "--older-than", "0m")
    assert f"sha256 {OTHER}" in said.stdout
    assert "1 blobs (0.0 MB) and 1 unfinished pushes removed" in said.stderr
    assert aws.keys() == [f"blobs/sha256/{entry.sha256}", "index.json"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=aws.bucket)


def test_nothing_is_removed_where_the_index_is_missing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.push(make(tmp_path / "here"), tmp_path / "here")
    (tmp_path / "store" / "index.json").unlink()
    with pytest.raises(StoreError, match="holds 1 blobs, but no index"):
        store.collect(timedelta(0))
    assert len(list((tmp_path / "store" / "blobs" / "sha256").iterdir())) == 1


def test_a_blob_that_a_push_found_there_is_not_removed_under_it(tmp_path: Path) -> None:
    """It is stored anew, so that whoever collects garbage meanwhile finds it young."""
    entry = make(tmp_path / "here")
    blob = tmp_path / "store" / "blobs" / "sha256" / entry.sha256
    blob.parent.mkdir(parents=True)
    blob.write_bytes((tmp_path / "here" / entry.file).read_bytes())
    age(blob)
    open_store(str(tmp_path / "store")).push(entry, tmp_path / "here")
    assert time.time() - blob.stat().st_mtime < 60


def test_a_blob_that_was_removed_before_it_was_named_is_stored_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    entry = make(tmp_path / "here")
    write = store.backend.write_index

    def collected(data: bytes, tag: str | None) -> None:
        store.backend.delete(entry.sha256)
        write(data, tag)

    store.backend.write_index = collected  # type: ignore[method-assign]
    store.push(entry, tmp_path / "here")
    assert not store.verify().wrong
