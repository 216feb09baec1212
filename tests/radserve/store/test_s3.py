"""A store in S3, as moto's server speaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from radserve.build import mar
from radserve.build import model_store as index
from radserve.errors import CorruptDataError, MissingBlobError, StoreError
from radserve.store import open_store
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Aws

PART = 100_000
BIG = 250_000


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 8 MiB would make tests slow; tests/radserve/store/test_killed.py has them."""
    monkeypatch.setattr("radserve.store.upload.PART", PART)


def test_what_was_pushed_is_pulled(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    store = open_store(aws.store)
    assert store.entries() == ()
    assert store.push(entry, tmp_path / "here").fresh
    assert aws.keys() == [f"blobs/sha256/{entry.sha256}", "index.json"]
    (listed,) = store.entries()
    assert listed.entry == entry
    assert store.pull("chest", None, tmp_path / "there") == entry
    mar.verify(entry, tmp_path / "there")
    assert index.read(tmp_path / "there").archives == (entry,)
    again = store.push(entry, tmp_path / "here")
    assert not again.fresh
    assert again.published == listed


def test_other_bytes_under_a_published_version_are_refused_before_anything_is_sent(aws: Aws, tmp_path: Path) -> None:
    store = open_store(aws.store)
    store.push(make(tmp_path / "here"), tmp_path / "here")
    before = aws.keys()
    with pytest.raises(StoreError, match="A version never changes: raise it"):
        store.push(make(tmp_path / "here", content=1), tmp_path / "here")
    assert aws.keys() == before


def test_a_large_archive_goes_in_parts(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    seen: list[tuple[int, int]] = []
    open_store(aws.store).push(entry, tmp_path / "here", lambda *pair: seen.append(pair))
    assert seen == [(0, entry.size), (PART, entry.size), (2 * PART, entry.size), (entry.size, entry.size)]
    assert not open_store(aws.store).push(entry, tmp_path / "here").fresh
    open_store(aws.store).pull("chest", "1.0.0", tmp_path / "there")


def test_a_push_that_was_interrupted_is_gone_on_with(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    aws.fail({"do": "403", "method": "PUT", "path": "blobs", "every": 3})
    with pytest.raises(StoreError, match="access is denied"):
        open_store(aws.store).push(entry, tmp_path / "here")
    assert aws.keys() == []
    aws.fail()
    open_store(aws.store).push(entry, tmp_path / "here")
    assert [item["query"] for item in aws.requests() if item["method"] == "PUT" and "partNumber=3" in item["query"]]
    assert len([item for item in aws.requests() if item["method"] == "PUT"]) == 2  # one part, and the index
    mar.verify(open_store(aws.store).pull("chest", None, tmp_path / "there"), tmp_path / "there")


def test_a_store_that_fails_half_of_its_requests_serves_all_the_same(
    aws: Aws, tmp_path: Path, pauses: list[float]
) -> None:
    entry = make(tmp_path / "here", size=BIG)
    aws.fail({"do": "500", "every": 4}, {"do": "reset", "every": 3})  # every third of the other three
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    store.pull("chest", None, tmp_path / "there")
    assert len(aws.requests()) > 10
    mar.verify(entry, tmp_path / "there")


def test_a_truncated_download_is_gone_on_with_where_it_stopped(aws: Aws, tmp_path: Path, pauses: list[float]) -> None:
    entry = make(tmp_path / "here", size=200_000)
    open_store(aws.store).push(entry, tmp_path / "here")
    aws.fail({"do": "cut", "method": "GET", "path": "blobs", "times": 2})
    open_store(aws.store).pull("chest", None, tmp_path / "there")
    asked = [item["range"] for item in aws.requests() if "blobs" in item["path"]]
    half = entry.size // 2
    assert asked == ["", f"bytes={half}-", f"bytes={half + (entry.size - half) // 2}-"]
    mar.verify(entry, tmp_path / "there")


def test_an_object_that_is_cut_off_for_good_is_refused_and_leaves_nothing(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    open_store(aws.store).push(entry, tmp_path / "here")
    aws.client("s3").put_object(
        Bucket=aws.bucket,
        Key=f"radserve/blobs/sha256/{entry.sha256}",
        Body=(tmp_path / "here" / entry.file).read_bytes()[:-1],
    )
    with pytest.raises(CorruptDataError, match=f"has {entry.size - 1} bytes instead of {entry.size}"):
        open_store(aws.store).pull("chest", None, tmp_path / "there")
    assert left(tmp_path / "there") == []


@pytest.mark.parametrize("size", [1000, BIG])
def test_an_object_that_was_changed_is_refused_and_leaves_nothing(aws: Aws, tmp_path: Path, size: int) -> None:
    entry = make(tmp_path / "here", size=size)
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    spoil(aws, entry.sha256)
    aws.fail()
    with pytest.raises(CorruptDataError, match="Push it again"):
        store.pull("chest", None, tmp_path / "there")
    assert len([item for item in aws.requests() if "blobs" in item["path"]]) == 2
    assert left(tmp_path / "there") == []
    assert store.verify().wrong[0].name == "chest"


def test_pushing_again_replaces_an_object_that_was_changed(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    spoil(aws, entry.sha256, "SHA256")
    assert not store.push(entry, tmp_path / "here").fresh
    store.pull("chest", None, tmp_path / "there")


def test_what_was_spoilt_on_the_way_is_fetched_once_more(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    open_store(aws.store).push(entry, tmp_path / "here")
    aws.fail({"do": "spoil", "method": "GET", "path": "blobs", "times": 1})
    open_store(aws.store).pull("chest", None, tmp_path / "there")
    mar.verify(entry, tmp_path / "there")


def test_a_missing_object_is_said(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    open_store(aws.store).push(entry, tmp_path / "here")
    aws.client("s3").delete_object(Bucket=aws.bucket, Key=f"radserve/blobs/sha256/{entry.sha256}")
    with pytest.raises(MissingBlobError, match=entry.sha256):
        open_store(aws.store).pull("chest", None, tmp_path / "there")
    assert left(tmp_path / "there") == []


def test_no_bucket_and_no_credentials_are_said(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="no such bucket"):
        open_store("s3://nowhere/at/all").entries()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="no AWS credentials were found"):
        open_store(aws.store).entries()


def test_nobody_there_is_said(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radserve.store.s3.ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="nobody answers"):
        open_store(aws.store).entries()


def spoil(aws: Aws, sha256: str, algorithm: str | None = None) -> None:
    """Change a byte of an object."""
    s3, key = aws.client("s3"), f"radserve/blobs/sha256/{sha256}"
    data = bytearray(s3.get_object(Bucket=aws.bucket, Key=key)["Body"].read())
    data[500] ^= 1
    s3.put_object(
        Bucket=aws.bucket, Key=key, Body=bytes(data), **({"ChecksumAlgorithm": algorithm} if algorithm else {})
    )


def left(model_store: Path) -> list[str]:
    """Return what is in a model store, but for the lock."""
    return sorted(path.name for path in model_store.iterdir() if path.name != ".index.lock")
