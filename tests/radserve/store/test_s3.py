"""Archive stores in S3, with moto's server."""

from pathlib import Path

import pytest

from radserve.build import mar
from radserve.errors import CorruptDataError, MissingBlobError, StoreError
from radserve.store import object_storage, open_store
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Aws

PART = 100_000
BIG = 250_000


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 8 MiB would make tests slow; test_killed.py has them."""
    monkeypatch.setattr(object_storage, "PART_SIZE", PART)


def test_other_content_of_a_published_version_is_rejected_before_the_upload(aws: Aws, tmp_path: Path) -> None:
    store = open_store(aws.store)
    store.push(make(tmp_path / "here"), tmp_path / "here")
    before = aws.keys()
    with pytest.raises(StoreError, match="A version never changes: raise it"):
        store.push(make(tmp_path / "here", content=1), tmp_path / "here")
    assert aws.keys() == before


def test_a_large_archive_is_uploaded_in_parts(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    calls: list[tuple[int, int]] = []
    open_store(aws.store).push(entry, tmp_path / "here", lambda *call: calls.append(call))
    assert calls == [(0, entry.size), (PART, entry.size), (2 * PART, entry.size), (entry.size, entry.size)]
    assert not open_store(aws.store).push(entry, tmp_path / "here").fresh
    open_store(aws.store).pull("chest", "1.0.0", tmp_path / "there")


def test_an_interrupted_push_is_resumed(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    aws.fail({"do": "403", "method": "PUT", "path": "blobs", "every": 3})
    with pytest.raises(StoreError, match="access denied"):
        open_store(aws.store).push(entry, tmp_path / "here")
    assert aws.keys() == []
    aws.fail()
    open_store(aws.store).push(entry, tmp_path / "here")
    assert [item["query"] for item in aws.requests() if item["method"] == "PUT" and "partNumber=3" in item["query"]]
    assert len([item for item in aws.requests() if item["method"] == "PUT"]) == 2  # one part, and the index
    mar.verify(open_store(aws.store).pull("chest", None, tmp_path / "there").archive, tmp_path / "there")


@pytest.mark.usefixtures("fast_retries")
def test_pushes_and_pulls_survive_failures_of_half_of_the_requests(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    aws.fail({"do": "500", "every": 4}, {"do": "reset", "every": 3})  # every third of the other three
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    store.pull("chest", None, tmp_path / "there")
    assert len(aws.requests()) > 10
    mar.verify(entry, tmp_path / "there")


@pytest.mark.parametrize("size", [1000, BIG])
def test_a_damaged_object_is_rejected(aws: Aws, tmp_path: Path, size: int) -> None:
    entry = make(tmp_path / "here", size=size)
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    spoil(aws, entry.sha256)
    aws.fail()
    with pytest.raises(CorruptDataError, match="Push it again"):
        store.pull("chest", None, tmp_path / "there")
    assert len([item for item in aws.requests() if "blobs" in item["path"]]) == 2
    assert files(tmp_path / "there") == []
    assert store.verify().failures[0].name == "chest"


@pytest.mark.parametrize("size", [1000, BIG])
def test_pushing_again_replaces_a_damaged_object(aws: Aws, tmp_path: Path, size: int) -> None:
    entry = make(tmp_path / "here", size=size)
    store = open_store(aws.store)
    store.push(entry, tmp_path / "here")
    spoil(aws, entry.sha256)
    assert not store.push(entry, tmp_path / "here").fresh
    store.pull("chest", None, tmp_path / "there")


def test_an_archive_damaged_in_transit_is_downloaded_again(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here", size=BIG)
    open_store(aws.store).push(entry, tmp_path / "here")
    aws.fail({"do": "spoil", "method": "GET", "path": "blobs", "times": 1})
    open_store(aws.store).pull("chest", None, tmp_path / "there")
    mar.verify(entry, tmp_path / "there")


def test_a_missing_object_is_reported(aws: Aws, tmp_path: Path) -> None:
    entry = make(tmp_path / "here")
    open_store(aws.store).push(entry, tmp_path / "here")
    aws.client("s3").delete_object(Bucket=aws.bucket, Key=f"radserve/blobs/sha256/{entry.sha256}")
    with pytest.raises(MissingBlobError, match=entry.sha256):
        open_store(aws.store).pull("chest", None, tmp_path / "there")
    assert files(tmp_path / "there") == []


def test_missing_bucket_and_credentials_are_reported(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="the bucket does not exist"):
        open_store("s3://nowhere/at/all").entries()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="no AWS credentials found"):
        open_store(aws.store).entries()


def spoil(aws: Aws, sha256: str) -> None:
    """Change a byte of an object."""
    s3, key = aws.client("s3"), f"radserve/blobs/sha256/{sha256}"
    data = bytearray(s3.get_object(Bucket=aws.bucket, Key=key)["Body"].read())
    data[500] ^= 1
    s3.put_object(Bucket=aws.bucket, Key=key, Body=bytes(data))


def files(model_store: Path) -> list[str]:
    """Return the files of a model store except its lock."""
    return sorted(path.name for path in model_store.iterdir() if path.name != ".index.lock")
